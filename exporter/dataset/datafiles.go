package dataset

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"

	"ehi-server/exporter/dataset/blobs"
	"ehi-server/shared/fhir"
)

// An export has the data of attachments as files, and its resources name them by their URLs (see
// native.Data). An import takes such a file back into its attachment if it lies beside the file
// with the resource:
//
//	<folder>/DocumentReference.0.0.ndjson    "url":"https://.../jobs/ID/download/data/NAME"
//	<folder>/data/NAME
const dataFolder = "data/"

// dataName matches the names of these files. The SHA-256 of the content is a part of them.
var dataName = regexp.MustCompile(`^[A-Za-z]+\.[0-9]+\.([0-9a-f]{64})(\.[0-9A-Za-z]+)?$`)

// isDataFile reports whether a path is that of the data of an attachment.
func isDataFile(file string) bool {
	folder, name := filepath.Split(file)
	return filepath.Base(folder) == path.Clean(dataFolder) && dataName.MatchString(name)
}

// mayNameData reports whether an attachment may name a file of data by its URL. Some encoders of
// JSON escape slashes.
func mayNameData(resource []byte) bool {
	return bytes.Contains(resource, []byte(downloads+dataFolder)) ||
		bytes.Contains(resource, []byte(`\/download\/data\/`))
}

// dataNamed returns the file of data that a URL names, and the SHA-256 of its content.
func dataNamed(url []byte) (name string, sum blobs.Name, ok bool) {
	at := bytes.LastIndex(url, []byte(downloads+dataFolder))
	if at < 0 {
		return "", sum, false
	}
	name = string(url[at+len(downloads+dataFolder):])
	m := dataName.FindStringSubmatch(name)
	if m == nil {
		return "", sum, false
	}
	sum, err := blobs.ParseName(m[1])
	return name, sum, err == nil
}

// dataFiles takes the data of attachments from the files beside one file of resources. It is used
// by the goroutine that writes.
type dataFiles struct {
	*importer
	ctx    context.Context //nolint:containedctx // of one file
	folder string          // of the file of resources
	root   *os.Root        // the same folder; nil until the first use
}

// openDataFiles returns the data beside a file. The caller closes it.
func (im *importer) openDataFiles(ctx context.Context, file string) *dataFiles {
	return &dataFiles{importer: im, ctx: ctx, folder: filepath.Dir(file)}
}

func (d *dataFiles) close() error {
	if d.root == nil {
		return nil
	}
	return d.root.Close()
}

// errData says why a file of data cannot be used.
type errData struct{ why string }

func (e errData) Error() string { return e.why }

// take returns the field that replaces the url of an attachment which names a file of data: a
// stand-in, or the data if it does not move. It returns nil if the url stays. room is how many
// bytes the resource may still grow. Errors: errData.
func (d *dataFiles) take(a *attachmentAt, room int64) (m movedData, with []byte, err error) {
	if a.urlEnd == 0 || a.end > 0 || a.extended {
		return m, nil, nil
	}
	name, sum, is := dataNamed(fhir.Unquote(a.url))
	if !is {
		return m, nil, nil
	}
	if m.blob, with, err = d.content(name, sum, room); err == nil && with == nil {
		with = a.standIn(m.blob)
	}
	if why, is := errors.AsType[errData](err); is {
		err = errData{"the data of an attachment is not imported: " + dataFolder + name + ": " +
			why.why}
	}
	return m, with, err
}

// content takes a file of data: as the field data, or as a blob if that moves. Errors: errData.
func (d *dataFiles) content(
	name string, sum blobs.Name, room int64,
) (blob blobs.Blob, inline []byte, err error) {
	d.named[filepath.Join(d.folder, dataFolder, name)] = true
	if d.root == nil {
		if d.root, err = os.OpenRoot(d.folder); err != nil {
			return blob, nil, errData{reason(err)}
		}
	}
	at := filepath.FromSlash(dataFolder + name)
	info, err := d.root.Lstat(at)
	switch {
	case err != nil:
		return blob, nil, errData{reason(err)}
	case !info.Mode().IsRegular():
		return blob, nil, errData{"is no regular file"}
	}
	file, err := d.root.Open(at)
	if err != nil {
		return blob, nil, errData{reason(err)}
	}
	defer file.Close() // read only
	size := info.Size()
	d.total += size
	if size < d.w.moveFrom && size/3*4+int64(len(`"data":"===="`)) <= room {
		inline, err = d.inline(io.LimitReader(file, size+1), sum)
	} else {
		blob, err = d.store(file, size, sum)
	}
	return blob, inline, err
}

// errOtherData means that a file does not have the content that its name says.
var errOtherData = errData{"differs from the SHA-256 in its name"}

// inline returns the data of an attachment with the content of a file. Errors: errData.
func (d *dataFiles) inline(file io.Reader, sum blobs.Name) ([]byte, error) {
	content, err := io.ReadAll(counting{file, &d.done})
	if err != nil {
		return nil, errData{reason(err)}
	}
	if sha256.Sum256(content) != sum {
		return nil, errOtherData
	}
	out := base64.StdEncoding.AppendEncode([]byte(`"data":"`), content)
	return append(out, '"'), nil
}

// store adds the content of a file to the blobs that flush publishes. Errors: errData.
func (d *dataFiles) store(file io.Reader, size int64, sum blobs.Name) (blobs.Blob, error) {
	read := &reader{ctx: d.ctx, r: counting{file, &d.done}}
	blob, err := d.w.addBlob(read, size)
	switch {
	case read.err != nil && d.ctx.Err() == nil: // of the file, not of the store
		return blob, errData{reason(read.err)}
	case err != nil:
		return blob, err
	case blob.Name != sum:
		return blob, errors.Join(d.w.blobs.Undo(), errOtherData)
	}
	return blob, d.w.publishFull()
}

// leaveDataFiles reports the files of data that no attachment names. Of a folder with resources
// that were imported before, nobody knows which ones they name.
func (im *importer) leaveDataFiles(all []string) {
	for _, file := range all {
		file = filepath.Clean(file)
		if im.named[file] || im.skipped[filepath.Dir(filepath.Dir(file))] {
			continue
		}
		im.leaves(file, errIgnored{"no attachment of the resources beside its folder names it"})
	}
}
