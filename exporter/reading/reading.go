// Package reading reads a text in each form in which somebody could read it, and judges each: in
// its character sets, without escapes, markup and formatting, and by the codes in it. So nothing
// is hidden by the way in which it is written. It knows neither records nor rules.
package reading

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"unicode/utf8"
)

// Judge looks for reasons why a text is withheld; "" is none. Both functions get a text in pieces
// that overlap by more than any ID or number of a resource.
type Judge struct {
	Text func(text []byte) (reason string)
	// Codes looks for elements with codes, and may be nil. It is not called for a text whose
	// elements are judged by a view that is made of it.
	Codes func(text []byte) (reason string)
}

// pieceBytes is the size of the pieces that are read of a document.
const pieceBytes = 256 << 10

// Document judges a document of a media type, if that or its bytes say that it is text. It returns
// the first reason that it finds. readable is false for a text in a character set that nobody here
// can read. What a program would have to interpret (PDF, images) is not read. Errors: those of in.
func Document(in io.Reader, contentType string, by Judge) (
	reason string, readable bool, err error,
) {
	text := bufio.NewReaderSize(in, overlap)
	set, is, err := begin(text, contentType)
	if !is {
		return "", true, err
	}
	buf := make([]byte, pieceBytes)
	var views *view
	for {
		n, err := io.ReadFull(text, buf)
		ended := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !ended {
			return "", true, err
		}
		if views == nil {
			views = viewsOf(contentType, buf[:n], set)
		}
		reason, _ := views.read(buf[:n], ended, by)
		if reason != "" || ended {
			return reason, !set.unknown, nil
		}
	}
}

// begin finds the character set of a document, and whether it is text.
func begin(in *bufio.Reader, contentType string) (set declared, is bool, err error) {
	head, err := in.Peek(overlap)
	if err != nil && err != io.EOF {
		return set, false, err
	}
	set = declaredBy(contentType, head)
	return set, isText(contentType) || looksLikeText(head) ||
		!set.isPlain() && !isBinary(contentType), nil
}

// IsText reports whether Document would read a document. It reads only the beginning. Errors:
// those of in.
func IsText(in io.Reader, contentType string) (bool, error) {
	_, is, err := begin(bufio.NewReaderSize(in, overlap), contentType)
	return is, err
}

// Value judges a short text, such as a cell or a title, in every form, and the codes of JSON in it.
// It judges none that has only one form.
func Value(text []byte, by Judge) (reason string) {
	if !hides(text) && !BeginsJSON(text) {
		return ""
	}
	reason, _ = viewsOf("", text, declared{}).read(text, true, by)
	return reason
}

// isText reports whether a media type says that it is text.
func isText(contentType string) bool {
	t := strings.ToLower(contentType)
	for _, is := range []string{"text/", "xml", "json", "rtf", "csv", "html", "message/"} {
		if strings.Contains(t, is) {
			return true
		}
	}
	return false
}

// isBinary reports whether a media type says that a document is no text, whatever character set
// it has.
func isBinary(contentType string) bool {
	t := strings.ToLower(contentType)
	for _, is := range []string{
		"image/", "audio/", "video/", "font/", "application/pdf", "application/dicom",
		"application/zip", "application/gzip",
	} {
		if strings.HasPrefix(t, is) {
			return true
		}
	}
	return false
}

// looksLikeText reports whether a document that begins with head can be read as text, whatever its
// type says: few of its bytes are control characters, of which HL7 v2 and terminals have some.
// Zeros do not count, because UTF-16 has them.
func looksLikeText(head []byte) bool {
	head = bytes.ReplaceAll(head, []byte{0}, nil)
	if bytes.HasPrefix(head, []byte("%PDF-")) {
		return false
	}
	strange := 0
	for _, c := range head {
		if c < ' ' && !('\b' <= c && c <= '\r' || 0x1b <= c) || c == 0x7f {
			strange++
		}
	}
	whole := bytes.TrimRightFunc(head[max(0, len(head)-utf8.UTFMax):],
		func(c rune) bool { return c == utf8.RuneError })
	head = head[:max(0, len(head)-utf8.UTFMax)+len(whole)]
	if utf8.Valid(head) {
		return strange*5 <= len(head)+5
	}
	return strange*20 <= len(head)+20
}
