package dataset

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ehi-server/exporter/source"
	"ehi-server/shared/fhir"
)

// Input is a file to import.
type Input struct {
	Path string
	Info fs.FileInfo
	// Document means that its name is that of a JSON document rather than NDJSON.
	Document bool
	// Native means that it describes native content: documents or tables.
	Native bool
	// Data means that it is the data of an attachment, which the import of another file takes.
	Data bool
}

// Inputs lists the files to import, including those of nested folders, sorted by name, and the
// ignored files. A path that is a file is read as NDJSON unless its name says otherwise.
func Inputs(paths []string) (files []Input, ignored []source.Ignored, err error) {
	for _, root := range paths {
		n, data := len(files), 0
		root = followed(root)
		indexed := indexed{}
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			in, why := examineFile(root, path, d, err)
			switch {
			case d != nil && !d.IsDir() && indexed.takes(path, why != ""):
			case why != "":
				ignored = append(ignored, source.Ignored{File: path, Why: why})
				if d != nil && d.IsDir() {
					return fs.SkipDir
				}
			case in.Info != nil:
				files = append(files, in)
				if in.Data {
					data++
				}
			default:
				indexed.enter(path)
			}
			return nil
		})
		if err != nil {
			return nil, ignored, err
		}
		if len(files)-data == n {
			return nil, ignored, fmt.Errorf("%s holds nothing to import: no %s", root, wanted)
		}
		sortNative(files[n:])
	}
	return files, ignored, nil
}

// sortNative sorts those inputs that describe native content, in their places, by name and numbers
// in it: a table that goes on from the archive native-0-9 to native-0-10 keeps the order of its
// rows.
func sortNative(files []Input) {
	var native []Input
	for _, f := range files {
		if f.Native {
			native = append(native, f)
		}
	}
	slices.SortStableFunc(native, func(a, b Input) int { return byNumbers(a.Path, b.Path) })
	for i := range files {
		if files[i].Native {
			files[i], native = native[0], native[1:]
		}
	}
}

// byNumbers compares names; digits compare as numbers.
func byNumbers(a, b string) int {
	for a != "" && b != "" {
		m, n := digits(a), digits(b)
		if m == 0 || n == 0 {
			if a[0] != b[0] {
				return cmp.Compare(a[0], b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		x, y := strings.TrimLeft(a[:m], "0"), strings.TrimLeft(b[:n], "0")
		if c := cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y)); c != 0 {
			return c
		}
		a, b = a[m:], b[n:]
	}
	return cmp.Compare(len(a), len(b))
}

// digits returns how many digits a text begins with.
func digits(text string) int {
	n := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if n < 0 {
		return len(text)
	}
	return n
}

// followed resolves a path that is a link to a folder. A walk does not follow links, but whoever
// names one means its target.
func followed(path string) string {
	link, err := os.Lstat(path)
	if err != nil || link.Mode()&fs.ModeSymlink == 0 {
		return path
	}
	if to, err := os.Stat(path); err == nil && to.IsDir() {
		return strings.TrimRight(path, string(filepath.Separator)) + string(filepath.Separator)
	}
	return path
}

// indexed knows the files of a walk that are documents, or have rows of tables.
type indexed struct {
	folder string // the outermost folder with an index around the current one; "" for none
	// named are files of tables, and those that an index lists although they look like resources.
	named map[string]bool
}

// enter looks for an index and a descriptor in a folder.
func (x *indexed) enter(folder string) {
	if !x.within(folder) {
		x.folder = ""
	}
	if x.named == nil {
		x.named = map[string]bool{}
	}
	for _, path := range tableFiles(folder) {
		x.named[path] = true
	}
	for _, index := range indexesIn(folder) {
		if x.folder == "" {
			x.folder = folder
		}
		maps.Copy(x.named, listed(index))
	}
}

// indexesIn returns the indexes of documents in a folder.
func indexesIn(folder string) (out []string) {
	for _, name := range append([]string{documentIndex, archiveList}, looseLists...) {
		index := filepath.Join(folder, name)
		info, err := os.Lstat(index) // a link could lead out of the folder
		if err == nil && info.Mode().IsRegular() && (name == documentIndex || isList(index)) {
			out = append(out, index)
		}
	}
	return out
}

// within reports whether a path is in a folder with an index.
func (x *indexed) within(path string) bool {
	rel, err := filepath.Rel(x.folder, path)
	return x.folder != "" && err == nil && filepath.IsLocal(rel)
}

// takes reports whether a file is a document, or may be one because it is nothing else.
func (x *indexed) takes(path string, otherwiseIgnored bool) bool {
	return x.within(path) && otherwiseIgnored || x.named[filepath.Clean(path)]
}

const wanted = "file named .json, .ndjson or .jsonl, gzipped (.gz) or not"

// examineFile classifies a path of a walk: an input, an ignored file with the reason, or neither
// for a folder to enter.
func examineFile(root, path string, d fs.DirEntry, err error) (in Input, why string) {
	name := filepath.Base(path)
	known, document := kindOfName(name)
	data := path != root && isDataFile(path)
	native := name == documentIndex || isDescriptor(name) || isList(path)
	switch {
	case err != nil:
		return in, reason(err)
	case path != root && strings.HasPrefix(name, "."):
		return in, "hidden"
	case d.IsDir():
		return in, ""
	case path != root && !known && !native && !data:
		return in, "no " + wanted
	case native && d.Type()&fs.ModeSymlink != 0:
		return in, "a symbolic link, which could lead out of the folder"
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return in, reason(err)
	case !info.Mode().IsRegular():
		return in, "no regular file"
	}
	return Input{path, info, document, native, data}, ""
}

// reason returns an error without its path.
func reason(err error) string {
	if of, ok := errors.AsType[*fs.PathError](err); ok {
		err = of.Err
	}
	return "cannot be read: " + err.Error()
}

// kindOfName returns by a file's name, in any case, whether it holds resources, and whether as a
// document.
func kindOfName(name string) (known, document bool) {
	switch strings.ToLower(filepath.Ext(strings.TrimSuffix(strings.ToLower(name), ".gz"))) {
	case ".json":
		return true, true
	case ".ndjson", ".jsonl":
		return true, false
	}
	return false, false
}

// errIgnored is why a readable input or resource is ignored.
type errIgnored struct{ why string }

func (e errIgnored) Error() string { return e.why }

// besides recognizes by their start the files that clients of bulk exports store beside the
// resources: the manifest, and the download log (log.ndjson). It returns "" for anything else.
func besides(head []byte) string {
	seen := map[string]bool{}
	var c fhir.Cursor
	for c.Reset(head); c.Next() && (c.Depth > 0 || c.Kind != fhir.Close); {
		if c.Depth == 1 {
			seen[string(c.Key())] = true
		}
	}
	switch {
	case seen["resourceType"]:
	case seen["transactionTime"] &&
		(seen["output"] || seen["request"] || seen["requiresAccessToken"]):
		return "the manifest of a bulk export"
	case seen["exportId"] && seen["eventId"]:
		return "the log of a bulk export"
	}
	return ""
}
