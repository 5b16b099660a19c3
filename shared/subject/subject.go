// Package subject makes the names by which NATS knows things: the subjects of messages, and the
// keys of buckets, which are the ends of subjects. A name that NATS cannot read costs more than
// its own request: the server ends the connection over a line that is too long. So every name is
// made here, of a constant and of parts, and is valid and bounded whatever the parts are. There
// is no other way to make one: the fields are unexported, and a Kind takes constants only.
package subject

import (
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
)

// constant is a string that stands in the source: a variable of type string is not assignable to
// it.
type constant string

// Kind is what a family of subjects begins with, such as "ehi.start". The zero Kind is the empty
// beginning: its subjects are their parts.
type Kind struct{ prefix string }

// KindOf makes a kind of a constant, which has to be made of letters, digits, "_", "-" and "$",
// divided by dots.
func KindOf(name constant) Kind { return Kind{string(name) + "."} }

// String is the kind as the beginning of its subjects, with the dot that ends it.
func (k Kind) String() string { return k.prefix }

// Within is a kind of which all subjects are k's too.
func (k Kind) Within(name constant) Kind { return Kind{k.prefix + string(name) + "."} }

// Of is the subject of a kind that its parts name. A part that is a short token is itself; any
// other, such as one that somebody outside made up, is replaced by its digest, which no token
// equals.
func (k Kind) Of(parts ...string) Subject { return Subject{k.prefix + join(parts)} }

// Join is the subject of a kind that ends in s.
func (k Kind) Join(s Subject) Subject { return Subject{k.prefix + s.name} }

// All matches every subject of a kind, and of a kind within it.
func (k Kind) All() Pattern { return Pattern{k.prefix + ">"} }

// Under matches the subjects of a kind that have these parts and one more.
func (k Kind) Under(parts ...string) Pattern {
	if len(parts) == 0 {
		return Pattern{k.prefix + "*"}
	}
	return Pattern{k.prefix + join(parts) + ".*"}
}

// Match matches the subjects of a kind that have these parts; an empty one stands for any.
func (k Kind) Match(parts ...string) Pattern {
	out := make([]string, len(parts))
	for i, p := range parts {
		if out[i] = "*"; p != "" {
			out[i] = token(p)
		}
	}
	return Pattern{k.prefix + strings.Join(out, ".")}
}

// Parts are those of a subject behind its kind; nil where it is of another kind.
func (k Kind) Parts(s Subject) []string {
	rest, ok := strings.CutPrefix(s.name, k.prefix)
	if !ok || rest == "" {
		return nil
	}
	return strings.Split(rest, ".")
}

// Subject is the name of a message, or the key of a bucket's record.
type Subject struct{ name string }

// String is the subject as NATS spells it.
func (s Subject) String() string { return s.name }

// Number is the subject with a number as one more part.
func (s Subject) Number(n int) Subject { return Subject{s.name + "." + strconv.Itoa(n)} }

// InBucket is the subject of the record of which s is the key.
func (s Subject) InBucket(bucket string) Subject {
	return Subject{"$KV." + token(bucket) + "." + s.name}
}

// Read takes a name that NATS or a backup tells. ok is false where no subject is spelled so.
func Read(name string) (s Subject, ok bool) {
	parts := strings.Split(name, ".")
	if len(parts) > 2*maxParts { // a kind's parts, and its subjects'
		return Subject{}, false
	}
	for _, p := range parts {
		if !isToken(p) && !isDigest(p) {
			return Subject{}, false
		}
	}
	return Subject{name}, true
}

// Pattern stands for several subjects.
type Pattern struct{ name string }

// String is the pattern as NATS spells it.
func (p Pattern) String() string { return p.name }

// MaxPart is the length of the longest part that is kept as it is, in bytes: that of a FHIR id.
const MaxPart = 64

// maxParts bounds how many parts a subject has; more than that are one part.
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

// token is a part as it stands in a subject.
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

// digest is what stands for a part that is no token. The equals sign, which no token has, keeps the
// two apart.
func digest(part string) string {
	sum := sha256.Sum256([]byte(part))
	return "=" + base64.RawURLEncoding.EncodeToString(sum[:])
}

func isDigest(part string) bool {
	sum, marked := strings.CutPrefix(part, "=")
	return marked && len(sum) == base64.RawURLEncoding.EncodedLen(sha256.Size) && isToken(sum)
}
