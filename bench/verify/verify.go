// Package verify checks exports that the tools in bench download: each file against its
// manifest, a whole export against the expected content, and documents and tables against what
// their lists and descriptors say. It shares no code with what writes them.
package verify

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"ehi-server/api/client"
	"ehi-server/shared/ehi"
)

// ErrWrong means that an answer violates the specification: a file that does not match its
// manifest, or an export with unexpected content.
var ErrWrong = errors.New("wrong answer")

// Wrongf returns an ErrWrong.
func Wrongf(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrWrong, fmt.Sprintf(format, a...))
}

// Tally summarizes lines, independent of their order.
type Tally struct {
	Lines, Bytes int64
	// Headers counts the lines that begin the block of a patient and are not resources.
	Headers int64
	Sum     Sum
}

// Line adds a line, including its newline.
func (t *Tally) Line(line []byte) {
	t.Lines++
	t.Bytes += int64(len(line))
	t.Sum.add(sha256.Sum256(line))
}

// Add adds another tally.
func (t *Tally) Add(o Tally) {
	t.Lines += o.Lines
	t.Headers += o.Headers
	t.Bytes += o.Bytes
	t.Sum.add(o.Sum)
}

// Sum is an order-independent checksum of lines: the sum of their SHA-256.
type Sum [32]byte

func (s *Sum) add(other [32]byte) {
	carry := 0
	for i := range s {
		carry += int(s[i]) + int(other[i])
		s[i] = byte(carry)
		carry >>= 8
	}
}

// File downloads and checks one file of a manifest: it has the number of resources in the
// manifest, each is a resource of its type, none is empty, and the last one is terminated
// (REAL-3). Errors: ErrWrong, or the client's.
func File(ctx context.Context, c *client.Client, e ehi.ManifestEntry) (t Tally, err error) {
	return file(ctx, c, e, func([]byte) (bool, error) { return false, nil })
}

// file is File. own is called with each line. If it returns true, the line differs from export to
// export, and Tally.Sum leaves it out.
func file(
	ctx context.Context, c *client.Client, e ehi.ManifestEntry, own func(line []byte) (bool, error),
) (t Tally, err error) {
	err = c.Stream(ctx, e.URL, func(r io.Reader) error {
		t = Tally{}
		return lines(r, e, &t, own)
	})
	if err == nil && t.Lines-t.Headers != e.Count {
		err = Wrongf("%s has %d resources, the manifest says %d", e.URL, t.Lines-t.Headers, e.Count)
	}
	return t, err
}

func lines(
	r io.Reader, e ehi.ManifestEntry, t *Tally, own func(line []byte) (bool, error),
) error {
	buf := bufio.NewReaderSize(r, 64<<10)
	var long []byte
	for {
		line, err := buf.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, line...)
			continue
		}
		if errors.Is(err, io.EOF) && len(line) == 0 && len(long) == 0 {
			return nil
		}
		if errors.Is(err, io.EOF) {
			return Wrongf("%s does not end with a newline", e.URL)
		}
		if err != nil {
			return err
		}
		if len(long) > 0 {
			line = append(long, line...)
			long = line[:0]
		}
		if leaveOut, err := own(line); err != nil {
			return err
		} else if leaveOut {
			t.Lines++
			t.Bytes += int64(len(line))
		} else {
			t.Line(line)
		}
		if e.Type == "" && isHeader(line) {
			t.Headers++
		}
		if !ofType(line, e.Type) {
			return Wrongf("line %d of %s is no %s: %.80q", t.Lines, e.URL, e.Type, line)
		}
	}
}

// isHeader reports whether a line begins the block of a patient in a file that is organized by
// patient (Bulk Data Access 3.0.0, "Bulk Data Output File Organization").
func isHeader(line []byte) bool {
	var v struct {
		ResourceType string `json:"resourceType"`
		Parameter    []struct {
			Name string `json:"name"`
		} `json:"parameter"`
	}
	return bytes.Contains(line, []byte("Parameters")) && json.Unmarshal(line, &v) == nil &&
		v.ResourceType == "Parameters" && len(v.Parameter) > 0 && v.Parameter[0].Name == "header"
}

// ofType reports whether a line is a JSON object of a resource type, at any position of the
// type; "" means any type.
func ofType(line []byte, typ string) bool {
	if typ == "" || bytes.HasPrefix(line, []byte(`{"resourceType":"`+typ+`"`)) {
		return json.Valid(line)
	}
	var v struct {
		ResourceType string `json:"resourceType"`
	}
	return json.Unmarshal(line, &v) == nil && v.ResourceType == typ
}
