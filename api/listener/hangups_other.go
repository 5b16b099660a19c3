//go:build !linux

package listener

import "net"

// HangUps cannot report here when the other side closes a connection.
type HangUps struct{}

// NewHangUps returns HangUps that watch nothing.
func NewHangUps() (*HangUps, error) { return &HangUps{}, nil }

// Close does nothing.
func (*HangUps) Close() {}

// Watch returns a channel that is never closed.
func (*HangUps) Watch(net.Conn) (gone <-chan struct{}, forget func()) { return nil, func() {} }
