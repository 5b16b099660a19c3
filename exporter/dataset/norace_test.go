//go:build !race

package dataset_test

// raced means that the race detector is on.
const raced = false
