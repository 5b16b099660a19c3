package source

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"math"

	"github.com/segmentio/encoding/json"
)

// Moved is the data of an Attachment that a source keeps beside the resource. In the lines of the
// source, a stand-in (Member) takes the place of the data. Readers that only decide about
// resources see an Attachment with data. Whoever passes a line on replaces the stand-ins, see
// Link. No import can bring a stand-in, see Respell.
type Moved struct {
	// Name is the SHA-256 of the content in hex. It is an ID of FHIR.
	Name        string `json:"name"`
	Size        int64  `json:"size"` // in bytes
	SHA1        []byte `json:"sha1"`
	Sum         string `json:"sum"` // in the form of files.Sum
	ContentType string `json:"type,omitempty"`
	// Sized and Hashed mean that the Attachment came with a size, or a hash, of its own.
	Sized  bool `json:"sized,omitempty"`
	Hashed bool `json:"hashed,omitempty"`
}

// MovedContent is the content of moved data, as Source.Moved finds it.
type MovedContent struct {
	Moved
	io.ReadSeekCloser
}

// DefaultInline is the default of the largest data of an Attachment that stays in its resource, in
// bytes.
const DefaultInline = 1 << 20

// MoveFrom returns ImportOptions.MoveFrom for the largest data of an Attachment that stays in its
// resource, in bytes. A negative number means that all data stays.
func MoveFrom(inline int64) int64 {
	if inline < 0 {
		return math.MaxInt64
	}
	return inline + 1
}

var (
	// reserved is a text that no line of a source has, but in a stand-in.
	reserved = []byte("urn:ehi-data:")
	// respelled is the same text in a JSON string, in other bytes.
	respelled = []byte(`urn:ehi-data\u003a`)
	// standIn is how a stand-in begins. What follows is in hex, and ends with a quote.
	standIn = append([]byte(`"data":"`), reserved...)
)

// Respell returns JSON without the text that marks stand-ins. Strings with that text have other
// bytes afterwards, and mean the same.
func Respell(doc []byte) []byte {
	if !bytes.Contains(doc, reserved) {
		return doc
	}
	return bytes.ReplaceAll(doc, reserved, respelled)
}

// Member returns the stand-in: the field of an Attachment that replaces its data.
func (m *Moved) Member() []byte {
	text, err := json.Marshal(m)
	if err != nil { // strings and numbers only: cannot fail
		panic(err)
	}
	out := hex.AppendEncode(bytes.Clone(standIn), text)
	return append(out, '"')
}

// HasMoved reports whether a line of a source has a stand-in.
func HasMoved(line []byte) bool { return bytes.Contains(line, standIn) }

var errStandIn = errors.New("a stand-in for the data of an attachment is damaged")

// EachMoved calls visit for each stand-in in lines of a source, until it returns an error. start
// and end are its bounds.
func EachMoved(lines []byte, visit func(m *Moved, start, end int) error) error {
	for at := 0; ; {
		n := bytes.Index(lines[at:], standIn)
		if n < 0 {
			return nil
		}
		start := at + n
		text := lines[start+len(standIn):]
		n = bytes.IndexByte(text, '"')
		if n < 0 {
			return errStandIn
		}
		plain, err := hex.AppendDecode(nil, text[:n])
		if err != nil {
			return errStandIn
		}
		var m Moved
		if json.Unmarshal(plain, &m) != nil {
			return errStandIn
		}
		at = start + len(standIn) + n + 1
		if err := visit(&m, start, at); err != nil {
			return err
		}
	}
}

// Link appends lines of a source to dst and replaces each stand-in by the fields of an Attachment
// that says where its data is: url, and size and hash unless it has them. url is called in the
// order of the lines.
func Link(dst, lines []byte, url func(m *Moved) string) ([]byte, error) {
	last := 0
	err := EachMoved(lines, func(m *Moved, start, end int) error {
		dst = append(append(dst, lines[last:start]...), m.fields(url(m))...)
		last = end
		return nil
	})
	return append(dst, lines[last:]...), err
}

// fields returns the fields of an Attachment whose data is at a URL.
func (m *Moved) fields(url string) []byte {
	text, err := json.Marshal(url)
	if err != nil { // strings can be encoded
		panic(err)
	}
	out := append([]byte(`"url":`), text...)
	if !m.Sized {
		size, _ := json.Marshal(m.Size) // numbers can be encoded
		out = append(append(out, `,"size":`...), size...)
	}
	if !m.Hashed {
		out = base64.StdEncoding.AppendEncode(append(out, `,"hash":"`...), m.SHA1)
		out = append(out, '"')
	}
	return out
}
