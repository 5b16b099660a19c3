package console

import (
	"testing"
	"time"

	"ehi-server/api/console/dictionary"
)

// The page of the format is made again when there is something new to say, and only the latest
// one is kept.
func TestThePageOfTheFormatIsMadeOnce(t *testing.T) {
	b, made := docsBook{}, 0
	render := func() ([]byte, error) {
		made++
		return []byte("page"), nil
	}
	at := time.Now()
	var tables *dictionary.Book
	for i, times := range []int{3, 3, 3} {
		for range times {
			if _, err := b.of(at, tables, render); err != nil || made != i+1 {
				t.Fatalf("made %d times, %v", made, err)
			}
		}
		if at = at.Add(1); i == 1 {
			tables = &dictionary.Book{}
		}
	}
}
