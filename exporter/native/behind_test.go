package native

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

// Whatever the sizes of the writes, the same bytes arrive in the same order, with their SHA-1.
func TestBytesArriveBehindTheWriterAsTheyCame(t *testing.T) {
	defer goleak.VerifyNone(t)
	content := make([]byte, 4*behindBuffers*behindBytes)
	_, _ = rand.NewChaCha8([32]byte{}).Read(content)
	rapid.Check(t, func(t *rapid.T) {
		var got bytes.Buffer
		b := newBehind(&got)
		sizes := rapid.SliceOfN(rapid.IntRange(0, 2*behindBytes), 0, 12).Draw(t, "sizes")
		sent := 0
		for _, n := range sizes {
			n = min(n, len(content)-sent)
			if k, err := b.Write(content[sent : sent+n]); k != n || err != nil {
				t.Fatalf("wrote %d of %d bytes: %v", k, n, err)
			}
			sent += n
		}
		if err := errors.Join(b.Close(), b.Close()); err != nil {
			t.Fatal(err)
		}
		sum := sha1.Sum(content[:sent])
		if !bytes.Equal(got.Bytes(), content[:sent]) || b.size != int64(sent) ||
			!bytes.Equal(b.digest(), sum[:]) {
			t.Fatalf("%d of %d bytes arrived, SHA-1 %x", got.Len(), sent, b.digest())
		}
	})
}

// An error of a write behind the writer is returned, at the latest by Close, and nothing is
// written after it.
func TestAnErrorBehindTheWriterIsReturned(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, fits := range []int64{0, 1, behindBytes, 3 * behindBytes} {
		var got bytes.Buffer
		full := errors.New("full")
		b := newBehind(&limited{&got, fits, full})
		var err error
		for range 4 * behindBuffers {
			if _, err = b.Write(make([]byte, behindBytes)); err != nil {
				break
			}
		}
		if !errors.Is(err, full) {
			t.Errorf("with room for %d bytes, Write returned %v", fits, err)
		}
		if err := b.Close(); !errors.Is(err, full) {
			t.Errorf("with room for %d bytes, Close returned %v", fits, err)
		}
		if int64(got.Len()) != fits {
			t.Errorf("%d bytes arrived where %d fit", got.Len(), fits)
		}
	}
}

// limited is a disk with room for a number of bytes.
type limited struct {
	to   io.Writer
	room int64
	err  error
}

func (l *limited) Write(p []byte) (int, error) {
	if l.room >= int64(len(p)) {
		l.room -= int64(len(p))
		return l.to.Write(p)
	}
	n, _ := l.to.Write(p[:l.room])
	l.room = 0
	return n, l.err
}

// An export that fails leaves no goroutine: stop ends it wherever it is.
func TestAWriterThatIsStoppedLeavesNoGoroutine(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, n := range []int{0, 1, behindBytes, 9 * behindBytes} {
		b := newBehind(io.Discard)
		if _, err := b.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		b.stop()
		b.stop()
	}
}

// The lines of a listing come as they were added, however they fall into its chunks.
func TestAListingKeepsItsLines(t *testing.T) {
	var l listing
	var want bytes.Buffer
	for i := range 300 {
		line := append(bytes.Repeat([]byte{byte('a' + i%26)}, i*7), '\n')
		l.add(line)
		want.Write(line)
	}
	if len(l.chunks) < 3 {
		t.Fatalf("%d bytes are in %d chunks", want.Len(), len(l.chunks))
	}
	var got bytes.Buffer
	if err := l.moveTo(&got); err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("%d of %d bytes came back, %v", got.Len(), want.Len(), err)
	}
	if err := l.moveTo(&got); err != nil || got.Len() != want.Len() {
		t.Errorf("an empty listing wrote %d bytes, %v", got.Len()-want.Len(), err)
	}
}
