//go:build unix

package main

import "syscall"

// private keeps everybody else out of the files that the process makes, also those of NATS and of the record store: 0600 in 0700 folders.
func private() { syscall.Umask(0o077) }
