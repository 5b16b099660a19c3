package media

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"sync"
)

// The size of images, in pixels.
const width, height = 96, 64

// variants is how many different images there are. Each file has a comment of its own.
const variants = 8

// shade returns the brightness of a pixel of an image.
func shade(variant, x, y int) uint8 {
	dx, dy := x-width/2+variant*3, y-height/2
	return uint8(255 - min(255, (dx*dx+dy*dy)/8) + variant)
}

func picture(variant int) image.Image {
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			s := shade(variant, x, y)
			m.Set(x, y, color.RGBA{s, s / 2, 255 - s, 255})
		}
	}
	return m
}

// encoded returns all variants in a format.
func encoded(encode func(*bytes.Buffer, image.Image) error) (out [variants][]byte) {
	for i := range out {
		var b bytes.Buffer
		if err := encode(&b, picture(i)); err != nil { // a buffer takes everything
			panic(err)
		}
		out[i] = b.Bytes()
	}
	return out
}

var jpegs = sync.OnceValue(func() [variants][]byte {
	return encoded(func(b *bytes.Buffer, m image.Image) error { return jpeg.Encode(b, m, nil) })
})

var pngs = sync.OnceValue(func() [variants][]byte {
	return encoded(func(b *bytes.Buffer, m image.Image) error { return png.Encode(b, m) })
})

// JPEG returns a picture with a comment, chosen by a number. Filling is comments.
func JPEG(number int, comment string, size int64) *File {
	base := jpegs()[number%variants]
	const marker = 2 // the start of the image
	f := &File{
		ContentType: "image/jpeg",
		Extension:   "jpg",
		head:        append(bytes.Clone(base[:marker]), segment([]byte(comment))...),
		tail:        bytes.Clone(base[marker:]),
	}
	return f.padBlocks(size, int64(len(segment(nil))), fullSegment, func(n int64) []byte {
		return segment(text[:n])
	})
}

// segment returns a comment of JPEG.
func segment(text []byte) []byte {
	out := binary.BigEndian.AppendUint16([]byte{0xff, 0xfe}, uint16(2+len(text)))
	return append(out, text...)
}

var fullSegment = segment(text)

// PNG returns a picture with a comment, chosen by a number. Filling is chunks of a private type.
func PNG(number int, comment string, size int64) *File {
	base := pngs()[number%variants]
	const header = 8 + 25 // signature and IHDR
	f := &File{
		ContentType: "image/png",
		Extension:   "png",
		head: append(bytes.Clone(base[:header]),
			chunk("tEXt", append([]byte("Comment\x00"), comment...))...),
		tail: bytes.Clone(base[header:]),
	}
	return f.padBlocks(size, int64(len(chunk("fiLl", nil))), fullChunk, func(n int64) []byte {
		return chunk("fiLl", text[:n])
	})
}

// chunk returns a chunk of PNG.
func chunk(typ string, data []byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	out = append(append(out, typ...), data...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[4:]))
}

var fullChunk = chunk("fiLl", text)

// TIFF returns a grey picture with a description, chosen by a number. The filling follows the
// last structure of the file.
func TIFF(number int, description string, size int64) *File {
	le := binary.LittleEndian
	const first = 8
	out := le.AppendUint32(append(make([]byte, 0, 8192), 'I', 'I', 42, 0), 0)
	for y := range height {
		for x := range width {
			out = append(out, shade(number%variants, x, y))
		}
	}
	about := uint32(len(out))
	out = append(append(out, description...), 0)
	resolution := uint32(len(out) + len(out)%2)
	out = append(out, make([]byte, int(resolution)-len(out))...)
	out = le.AppendUint32(le.AppendUint32(out, 72), 1)
	le.PutUint32(out[4:], uint32(len(out)))
	const short, long, ascii, rational = 3, 4, 2, 5
	entries := [][4]uint32{ // tag, type, count, value
		{256, short, 1, width}, {257, short, 1, height}, {258, short, 1, 8}, {259, short, 1, 1},
		{262, short, 1, 1}, {270, ascii, uint32(len(description) + 1), about},
		{273, long, 1, first}, {277, short, 1, 1}, {278, short, 1, height},
		{279, long, 1, width * height}, {282, rational, 1, resolution},
		{283, rational, 1, resolution}, {296, short, 1, 2},
	}
	out = le.AppendUint16(out, uint16(len(entries)))
	for _, e := range entries {
		out = le.AppendUint16(le.AppendUint16(out, uint16(e[0])), uint16(e[1]))
		out = le.AppendUint32(le.AppendUint32(out, e[2]), e[3])
	}
	out = le.AppendUint32(out, 0)
	f := &File{ContentType: "image/tiff", Extension: "tiff", head: out}
	return f.pad(size, text)
}
