package media

import "strconv"

// RTF returns a rich-text file with a heading and paragraphs.
func RTF(heading string, paragraphs []string, size int64) *File {
	const begin = `{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fswiss Helvetica;}}` + "\n" +
		`{\info{\title `
	out := append(make([]byte, 0, 512), begin...) // as much as most have
	out = append(appendRTF(out, heading), `}}`+"\n"+`\pard\f0\fs28\b `...)
	out = append(appendRTF(out, heading), `\b0\fs22\par`+"\n"...)
	for _, p := range paragraphs {
		out = append(appendRTF(out, p), `\par`+"\n"...)
	}
	f := &File{ContentType: "application/rtf", Extension: "rtf", head: out, tail: []byte("}\n")}
	// A reader skips a group that begins with \* and a word that it does not know.
	const open, done = `{\*\filling `, `}`
	if missing := size - f.Size() - int64(len(open)+len(done)); missing > 0 {
		f.head = append(f.head, open...)
		f.tail = []byte(done + "}\n")
	}
	return f.pad(size, text)
}

// appendRTF appends text with the escapes of RTF.
func appendRTF(dst []byte, s string) []byte {
	for _, r := range s {
		switch {
		case r == '\\', r == '{', r == '}':
			dst = append(dst, '\\', byte(r))
		case r < 0x80:
			dst = append(dst, byte(r))
		case r < 0x8000:
			dst = append(strconv.AppendInt(append(dst, `\u`...), int64(r), 10), '?')
		default: // numbers of RTF are signed
			dst = append(strconv.AppendInt(append(dst, `\u`...), int64(r)-0x10000, 10), '?')
		}
	}
	return dst
}
