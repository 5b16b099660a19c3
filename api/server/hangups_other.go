//go:build !linux

package server

import "net"

// hangUps cannot tell here when the other side closes a connection: a request is held to its end.
type hangUps struct{}

func newHangUps() (*hangUps, error) { return &hangUps{}, nil }

func (*hangUps) close() {}

func (*hangUps) watch(net.Conn) (gone <-chan struct{}, forget func()) { return nil, func() {} }
