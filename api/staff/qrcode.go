package staff

import (
	"fmt"
	"html/template"
	"strings"

	"github.com/boombuler/barcode/qr"
)

// quietZone is how much empty space a QR code needs around it, in modules (ISO/IEC 18004).
const quietZone = 4

// svg is a QR code within a page: its side, twice, and the path of its dark modules.
const svg = `<svg class="qr" viewBox="0 0 %[1]d %[1]d" role="img" ` +
	`aria-label="QR code of the secret" shape-rendering="crispEdges">` +
	`<rect width="100%%" height="100%%" fill="#fff"/><path fill="#000" d="%[2]s"/></svg>`

// drawQR draws a text as a QR code. The page that shows it loads no image.
func drawQR(text string) (template.HTML, error) {
	code, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return "", err
	}
	size := code.Bounds().Dx()
	var path strings.Builder
	for y := range size {
		for x := range size {
			if r, _, _, _ := code.At(x, y).RGBA(); r == 0 {
				fmt.Fprintf(&path, "M%d %dh1v1h-1z", x+quietZone, y+quietZone)
			}
		}
	}
	return template.HTML(fmt.Sprintf(svg, size+2*quietZone, path.String())), nil
}
