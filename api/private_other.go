//go:build !unix

package main

// private does nothing: the folder's own access list decides here.
func private() {}
