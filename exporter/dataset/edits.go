package dataset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// A Pebble manifest is a log of edits in LevelDB's format: blocks of 32 KiB with chunks of a
// checksum (4 bytes), a length (2), a kind (1) and data. Pebble treats a chunk with a wrong
// checksum as the end of the log. It would open the store as it was before that edit, and delete
// the tables of later edits. A log that was being written during a power failure ends within a
// chunk or in zeros. A complete chunk with a wrong checksum is damage.
const (
	editBlock  = 32 << 10
	editHeader = 7
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkManifest checks the manifest that a folder's marker names. Errors: ErrDamaged.
func checkManifest(dir, marker string) error {
	name := marker[strings.LastIndexByte(marker, '.')+1:]
	path := filepath.Join(dir, name)
	f, err := os.Open(path)
	if err != nil {
		return nil // Pebble reports this
	}
	at, err := wrongEdit(f)
	err = errors.Join(err, f.Close())
	switch {
	case err != nil:
		return fmt.Errorf("open record store: %w", err)
	case at >= 0:
		return fmt.Errorf("%w: %s: wrong checksum at byte %d", ErrDamaged, path, at)
	}
	return nil
}

// wrongEdit returns the offset of the first complete chunk with a wrong checksum, or -1.
func wrongEdit(r io.Reader) (at int64, err error) {
	block := make([]byte, editBlock)
	for base := int64(0); ; base += editBlock {
		n, err := io.ReadFull(r, block)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return -1, err
		}
		for i := 0; i+editHeader <= n; {
			sum, length, kind := binary.LittleEndian.Uint32(block[i:]),
				int(binary.LittleEndian.Uint16(block[i+4:])), block[i+6]
			end := i + editHeader + length
			if sum == 0 && length == 0 && kind == 0 { // zeros up to the end of the block
				break
			}
			if end > n {
				if n == editBlock { // a chunk does not cross blocks
					return base + int64(i), nil
				}
				return -1, nil
			}
			if masked(crc32.Checksum(block[i+editHeader-1:end], castagnoli)) != sum {
				return base + int64(i), nil
			}
			i = end
		}
	}
}

// masked masks a checksum as LevelDB does.
func masked(sum uint32) uint32 { return (sum>>15 | sum<<17) + 0xa282ead8 }
