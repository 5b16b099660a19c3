package media

import (
	"fmt"
	"strings"
)

// PDF returns a file of one page with a heading and lines. Only ASCII is shown.
func PDF(heading string, lines []string, size int64) *File {
	var page strings.Builder
	fmt.Fprintf(&page, "BT /F1 16 Tf 56 780 Td (%s) Tj /F1 10 Tf 0 -10 Td\n", pdfText(heading))
	for _, line := range lines {
		fmt.Fprintf(&page, "0 -14 Td (%s) Tj\n", pdfText(line))
	}
	page.WriteString("ET")
	objects := []string{
		"<</Type/Catalog/Pages 2 0 R>>",
		"<</Type/Pages/Kids[3 0 R]/Count 1>>",
		"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R" +
			"/Resources<</Font<</F1 5 0 R>>>>>>",
		fmt.Sprintf("<</Length %d>>stream\n%s\nendstream", page.Len(), page.String()),
		"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
		fmt.Sprintf("<</Title(%s)/Producer(synthetic patients)>>", pdfText(heading)),
	}
	head, offsets := "%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", []int64{}
	for i, o := range objects {
		offsets = append(offsets, int64(len(head)))
		head += fmt.Sprintf("%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	return finishPDF(head, offsets, size)
}

// finishPDF adds the filling, an object that nothing refers to, and the table of objects.
func finishPDF(head string, offsets []int64, size int64) *File {
	const open, done = "%d 0 obj\n<</Length %010d>>stream\n", "\nendstream\nendobj\n"
	offsets = append(offsets, int64(len(head)))
	n, at := len(offsets), int64(0)
	tail := func() string {
		var t strings.Builder
		fmt.Fprintf(&t, "%sxref\n0 %d\n0000000000 65535 f \n", done, n+1)
		for _, o := range offsets {
			fmt.Fprintf(&t, "%010d 00000 n \n", o)
		}
		fmt.Fprintf(&t, "trailer\n<</Size %d/Root 1 0 R/Info 6 0 R>>\nstartxref\n%010d\n%%%%EOF\n",
			n+1, at)
		return t.String()
	}
	opened := int64(len(fmt.Sprintf(open, n, 0)))
	filled := max(0, size-int64(len(head))-opened-int64(len(tail())))
	at = int64(len(head)) + opened + filled + int64(len(done))
	return &File{
		ContentType: "application/pdf",
		Extension:   "pdf",
		head:        []byte(head + fmt.Sprintf(open, n, filled)),
		fill:        text,
		filled:      filled,
		tail:        []byte(tail()),
	}
}

// pdfText escapes the text of a string.
func pdfText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune(`()\`, r) {
			return ' '
		}
		return r
	}, s)
}
