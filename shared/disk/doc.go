// Package disk is the file system below everything that the program stores: the operating
// system's or a test's. It reports free space and readability, and classifies errors of full
// disks. It does not know the contents of files.
package disk
