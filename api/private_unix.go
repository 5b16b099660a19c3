//go:build unix

package main

import "syscall"

// private makes all new files of the process private (0600, folders 0700), including those of
// NATS and the record store.
func private() { syscall.Umask(0o077) }
