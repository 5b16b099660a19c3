// Package disk is the file system under whatever this program keeps on a disk: the operating
// system's, or one that a test puts in its place. It tells how much room there is, whether what is
// kept can still be read, and which errors mean that there is no room. It knows nothing of what the
// files hold.
package disk
