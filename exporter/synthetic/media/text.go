package media

import (
	"bytes"
	"encoding/xml"
)

// XML returns a file with the text of an XML document. Filling is comments after its root.
func XML(document []byte, size int64) *File {
	f := &File{ContentType: "application/xml", Extension: "xml", head: document}
	return f.padBlocks(size, int64(len(remark(nil))), fullRemark, func(n int64) []byte {
		return remark(text[:n])
	})
}

// remark returns a comment of XML.
func remark(text []byte) []byte { return append(append([]byte("<!--"), text...), "-->\n"...) }

var fullRemark = remark(text)

// AppendXML appends text with the escapes of XML.
func AppendXML(dst []byte, s string) []byte {
	w := sink{dst}
	if err := xml.EscapeText(&w, []byte(s)); err != nil { // a sink takes everything
		panic(err)
	}
	return w.data
}

// sink collects what is written.
type sink struct{ data []byte }

// Write implements io.Writer.
func (s *sink) Write(p []byte) (int, error) { s.data = append(s.data, p...); return len(p), nil }

// NDJSON returns a file with lines of JSON, each with its newline. Filling is lines too.
func NDJSON(lines []byte, size int64) *File {
	f := &File{ContentType: "application/x-ndjson", Extension: "ndjson", head: lines}
	return f.padBlocks(size, int64(len(object(nil))), fullObject, func(n int64) []byte {
		return object(spaces[:n])
	})
}

// object returns a line that says nothing.
func object(text []byte) []byte {
	return append(append([]byte(`{"filling":"`), text...), "\"}\n"...)
}

var (
	spaces     = bytes.Repeat([]byte{' '}, blockBytes)
	fullObject = object(spaces)
)
