//go:build !unix

package main

// private does nothing: the access list of the folder applies.
func private() {}
