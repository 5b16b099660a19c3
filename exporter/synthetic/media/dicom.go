package media

import (
	"encoding/binary"
	"strconv"
	"time"
)

// Slice describes an image of a DICOM series.
type Slice struct {
	Study, Series, Instance string // UIDs
	Number                  int    // in the series, from 1
	PatientName             string // as Family^Given
	PatientID, Sex          string
	Born, Taken             time.Time
	Description             string
}

// DICOM returns a secondary capture image, in Explicit VR Little Endian (PS3.10). Filling is the
// element Data Set Trailing Padding.
func DICOM(s Slice, size int64) *File {
	const capture, explicit = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.1.2.1"
	meta := dataset{}.
		binary(2, 1, "OB", []byte{0, 1}).text(2, 2, "UI", capture).text(2, 3, "UI", s.Instance).
		text(2, 0x10, "UI", explicit).text(2, 0x12, "UI", "1.2.840.99999999.3.1").
		text(2, 0x13, "SH", "SYNTHETIC_1")
	out := append(make([]byte, 128, 10<<10), "DICM"...)
	out = append(out, dataset{}.number32(2, 0, uint32(len(meta)))...)
	out = append(out, meta...)
	const date, clock = "20060102", "150405"
	body := dataset(out).
		text(8, 5, "CS", "ISO_IR 192").text(8, 0x16, "UI", capture).
		text(8, 0x18, "UI", s.Instance).text(8, 0x20, "DA", s.Taken.Format(date)).
		text(8, 0x30, "TM", s.Taken.Format(clock)).text(8, 0x50, "SH", "").
		text(8, 0x60, "CS", "DX").text(8, 0x64, "CS", "WSD").text(8, 0x90, "PN", "").
		text(8, 0x1030, "LO", s.Description).
		text(0x10, 0x10, "PN", s.PatientName).text(0x10, 0x20, "LO", s.PatientID).
		text(0x10, 0x30, "DA", s.Born.Format(date)).text(0x10, 0x40, "CS", s.Sex).
		text(0x20, 0xd, "UI", s.Study).text(0x20, 0xe, "UI", s.Series).
		text(0x20, 0x10, "SH", "1").text(0x20, 0x11, "IS", "1").
		text(0x20, 0x13, "IS", strconv.Itoa(s.Number)).text(0x20, 0x20, "CS", "").
		number16(0x28, 2, 1).text(0x28, 4, "CS", "MONOCHROME2").number16(0x28, 0x10, height).
		number16(0x28, 0x11, width).number16(0x28, 0x100, 8).number16(0x28, 0x101, 8).
		number16(0x28, 0x102, 7).number16(0x28, 0x103, 0)
	pixels := make([]byte, 0, width*height)
	for y := range height {
		for x := range width {
			pixels = append(pixels, shade(s.Number, x, y))
		}
	}
	f := &File{
		ContentType: "application/dicom",
		Extension:   "dcm",
		head:        body.binary(0x7fe0, 0x10, "OB", pixels),
	}
	const frame = 12 // tag, type, reserved bytes and length
	if missing := (size - f.Size() - frame) &^ 1; missing >= 0 {
		f.head = dataset(f.head).long(0xfffc, 0xfffc, "OB", uint32(missing))
		f.fill, f.filled = make([]byte, blockBytes), missing
	}
	return f
}

// dataset is elements of DICOM.
type dataset []byte

// tag appends the tag and the type of an element.
func (d dataset) tag(group, element uint16, typ string) dataset {
	d = binary.LittleEndian.AppendUint16(d, group)
	return append(binary.LittleEndian.AppendUint16(d, element), typ...)
}

// text appends an element with a text, padded to an even length.
func (d dataset) text(group, element uint16, typ, value string) dataset {
	padding := " "
	if typ == "UI" {
		padding = "\x00"
	}
	if len(value)%2 == 1 {
		value += padding
	}
	d = binary.LittleEndian.AppendUint16(d.tag(group, element, typ), uint16(len(value)))
	return append(d, value...)
}

func (d dataset) number16(group, element, value uint16) dataset {
	d = binary.LittleEndian.AppendUint16(d.tag(group, element, "US"), 2)
	return binary.LittleEndian.AppendUint16(d, value)
}

func (d dataset) number32(group, element uint16, value uint32) dataset {
	d = binary.LittleEndian.AppendUint16(d.tag(group, element, "UL"), 4)
	return binary.LittleEndian.AppendUint32(d, value)
}

// long appends the head of an element whose length has 32 bits.
func (d dataset) long(group, element uint16, typ string, length uint32) dataset {
	d = append(d.tag(group, element, typ), 0, 0)
	return binary.LittleEndian.AppendUint32(d, length)
}

func (d dataset) binary(group, element uint16, typ string, value []byte) dataset {
	return append(d.long(group, element, typ, uint32(len(value))), value...)
}
