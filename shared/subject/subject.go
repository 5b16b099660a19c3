// Package subject creates names for NATS: the subjects of messages and the keys of buckets,
// which are the ends of subjects. An invalid name affects more than its own request: the server
// closes the connection over a line that is too long. Every name is therefore built here from a
// constant and parts, and is valid and bounded for any parts. There is no other way to create
// one: the fields are unexported, and a Kind accepts constants only.
package subject

import (
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
)

// constant is a string literal of the source: a variable of type string is not assignable to it.
type constant string

// Kind is the common prefix of a family of subjects, such as "ehi.start". The zero Kind is the
// empty prefix: its subjects consist of their parts.
type Kind struct{ prefix string }

// KindOf returns the kind with a constant name of letters, digits, "_", "-" and "$", separated
// by dots.
func KindOf(name constant) Kind { return Kind{string(name) + "."} }

// String returns the prefix of the kind's subjects, including the final dot.
func (k Kind) String() string { return k.prefix }

// Within returns a kind within k: all its subjects are subjects of k.
func (k Kind) Within(name constant) Kind { return Kind{k.prefix + string(name) + "."} }

// Of returns the subject with the given parts. A part that is a short valid token stays as it
// is. Any other part, such as untrusted input, is replaced by its digest, which differs from
// every token.
func (k Kind) Of(parts ...string) Subject { return Subject{k.prefix + join(parts)} }

// Join returns the subject of the kind that ends in s.
func (k Kind) Join(s Subject) Subject { return Subject{k.prefix + s.name} }

// All returns a pattern for every subject of the kind and of the kinds within it.
func (k Kind) All() Pattern { return Pattern{k.prefix + ">"} }

// Under returns a pattern for the subjects with the given parts and one more.
func (k Kind) Under(parts ...string) Pattern {
	if len(parts) == 0 {
		return Pattern{k.prefix + "*"}
	}
	return Pattern{k.prefix + join(parts) + ".*"}
}

// Match returns a pattern for the subjects with the given parts. An empty part matches any.
func (k Kind) Match(parts ...string) Pattern {
	out := make([]string, len(parts))
	for i, p := range parts {
		if out[i] = "*"; p != "" {
			out[i] = token(p)
		}
	}
	return Pattern{k.prefix + strings.Join(out, ".")}
}

// Parts returns the parts of a subject after its kind, or nil if it is of another kind.
func (k Kind) Parts(s Subject) []string {
	rest, ok := strings.CutPrefix(s.name, k.prefix)
	if !ok || rest == "" {
		return nil
	}
	return strings.Split(rest, ".")
}

// Subject is the name of a message, or the key of a bucket's record.
type Subject struct{ name string }

// String returns the subject as NATS spells it.
func (s Subject) String() string { return s.name }

// Number returns the subject with a number as an additional part.
func (s Subject) Number(n int) Subject { return Subject{s.name + "." + strconv.Itoa(n)} }

// InBucket returns the subject of the record with the key s.
func (s Subject) InBucket(bucket string) Subject {
	return Subject{"$KV." + token(bucket) + "." + s.name}
}

// Read parses a name from NATS or from a backup. ok is false if no subject has this name.
func Read(name string) (s Subject, ok bool) {
	parts := strings.Split(name, ".")
	if len(parts) > 2*maxParts { // the parts of a kind and of its subjects
		return Subject{}, false
	}
	for _, p := range parts {
		if !isToken(p) && !isDigest(p) {
			return Subject{}, false
		}
	}
	return Subject{name}, true
}

// Pattern matches several subjects.
type Pattern struct{ name string }

// String returns the pattern as NATS spells it.
func (p Pattern) String() string { return p.name }

// MaxPart is the longest part that is kept as it is, in bytes: the length of a FHIR ID.
const MaxPart = 64

// maxParts is how many parts a subject may have. Further ones are merged into one.
const maxParts = 8

func join(parts []string) string {
	if len(parts) > maxParts {
		return digest(strings.Join(parts, "\x00"))
	}
	out := make([]string, len(parts))
	for i, p := range parts {
		out[i] = token(p)
	}
	return strings.Join(out, ".")
}

// token returns a part as it appears in a subject.
func token(part string) string {
	if isToken(part) {
		return part
	}
	return digest(part)
}

func isToken(part string) bool {
	if part == "" || len(part) > MaxPart {
		return false
	}
	for _, c := range []byte(part) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// digest returns the replacement of an invalid part. It contains an equals sign, which no token
// has.
func digest(part string) string {
	sum := sha256.Sum256([]byte(part))
	return "=" + base64.RawURLEncoding.EncodeToString(sum[:])
}

func isDigest(part string) bool {
	sum, marked := strings.CutPrefix(part, "=")
	return marked && len(sum) == base64.RawURLEncoding.EncodedLen(sha256.Size) && isToken(sum)
}
