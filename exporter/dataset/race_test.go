//go:build race

package dataset_test

// raced means that the race detector is on, which makes processes many times slower.
const raced = true
