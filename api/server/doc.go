// Package server is the HTTP side: it turns requests into changes of job records and commands on the bus, and records
// and files into answers. routes.go shows every route in one place; each group of routes has a file. It never exports
// anything itself, never lists a directory, and keeps no state of its own.
package server
