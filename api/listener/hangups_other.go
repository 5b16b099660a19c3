//go:build !linux

package listener

import "net"

// HangUps cannot tell here when the other side closes a connection: no connection ever seems gone.
type HangUps struct{}

// NewHangUps returns what watches nothing.
func NewHangUps() (*HangUps, error) { return &HangUps{}, nil }

// Close does nothing.
func (*HangUps) Close() {}

// Watch returns a channel that is never closed.
func (*HangUps) Watch(net.Conn) (gone <-chan struct{}, forget func()) { return nil, func() {} }
