package verify

import (
	"archive/zip"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"strings"
	"unicode"

	"ehi-server/shared/datapackage"
)

// The files that describe an archive (NAT-2, NAT-3).
const (
	listFile       = "document_reference.ndjson"
	descriptorFile = "datapackage.json"
)

// maxText is the largest list or descriptor of an archive that is read, in bytes.
const maxText = 64 << 20

// unpacked is an archive that is being verified.
type unpacked struct {
	*Native
	at      string // its URL
	entries map[string]*zip.File
	listed  map[string]Listed
	tables  map[string]*datapackage.Resource // by path
	// within are the keys that the archive says lead to rows in it.
	within keys
}

// unpack verifies an archive and returns the number of files in it. Nothing is written.
func (n *Native) unpack(ctx context.Context, l Listed, f *os.File) (files int64, err error) {
	z, err := zip.NewReader(f, l.Size)
	if err != nil {
		return 0, Wrongf("%s: %v", l.URL, err)
	}
	u := &unpacked{
		Native: n, at: l.URL, entries: map[string]*zip.File{}, listed: map[string]Listed{},
		tables: map[string]*datapackage.Resource{}, within: keys{alone: true},
	}
	for _, step := range []func() error{
		func() error { return u.names(z.File) },
		u.list,
		func() error { return u.complete(ctx) },
		u.describe,
	} {
		if err := step(); err != nil {
			return 0, err
		}
	}
	for name, f := range u.listed {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := u.file(name, f); err != nil {
			return 0, err
		}
	}
	if err := u.within.closed(); err != nil {
		return 0, fmt.Errorf("%s: %w", u.at, err)
	}
	return int64(len(z.File)), nil
}

// names checks the names of the files. No two of them may be the same file on systems that
// ignore the case of letters.
func (u *unpacked) names(all []*zip.File) error {
	seen := map[string]bool{}
	for _, f := range all {
		if why := unsafe(f.Name); why != "" {
			return Wrongf("%s: the file %q %s", u.at, f.Name, why)
		}
		folded := strings.ToLower(f.Name)
		if seen[folded] {
			return Wrongf("%s has %q twice", u.at, f.Name)
		}
		seen[folded] = true
		u.entries[f.Name] = f
	}
	return nil
}

// unsafe says why a file of an archive must not be unpacked; "" if it may.
func unsafe(name string) string {
	switch {
	case strings.HasSuffix(name, "/"):
		return "is a folder"
	case !fs.ValidPath(name) || name == ".":
		return "leads out of the archive"
	case strings.ContainsAny(name, `\:*?"<>|`) || strings.ContainsFunc(name, unicode.IsControl):
		return "has a character that not every system allows"
	}
	return ""
}

// list reads the list of the archive.
func (u *unpacked) list() error {
	f := u.entries[listFile]
	if f == nil {
		return Wrongf("%s lacks %s", u.at, listFile)
	}
	return u.open(f, maxText, func(r io.Reader) error {
		buffered := bufio.NewReader(r)
		for {
			line, err := buffered.ReadBytes('\n')
			if errors.Is(err, io.EOF) && len(line) == 0 {
				return nil
			}
			if err != nil {
				return Wrongf("%s does not end with a newline: %v", listFile, err)
			}
			if err := u.entry(line); err != nil {
				return err
			}
		}
	})
}

// entry takes a line of the list.
func (u *unpacked) entry(line []byte) error {
	l, ok, err := listedIn(line)
	if err != nil {
		return err
	}
	if !ok {
		return Wrongf("%s lists what is no file: %.200s", listFile, line)
	}
	name, err := url.PathUnescape(l.URL)
	if err != nil {
		return Wrongf("%s: %v", l.URL, err)
	}
	if u.entries[name] == nil {
		return Wrongf("%s lists %q, which the archive does not have", listFile, l.URL)
	}
	if name == listFile {
		return Wrongf("%s lists itself", listFile)
	}
	if err := u.unique(l, u.at+"!"+name); err != nil {
		return err
	}
	u.listed[name] = l
	return nil
}

// complete checks that every file is listed, and that all formats are documented.
func (u *unpacked) complete(ctx context.Context) error {
	for _, l := range u.listed {
		if err := u.Pages.check(ctx, u.Client, l); err != nil {
			return err
		}
	}
	for name := range u.entries {
		if _, ok := u.listed[name]; !ok && name != listFile {
			return Wrongf("%s: the file %q is not listed", u.at, name)
		}
	}
	return nil
}

// describe reads the descriptor of the tables. Every file beside a table must be one, too.
func (u *unpacked) describe() error {
	f := u.entries[descriptorFile]
	var p *datapackage.Package
	if f != nil {
		err := u.open(f, maxText, func(r io.Reader) error {
			data, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			p, err = datapackage.Parse(data)
			return err
		})
		if err != nil {
			return err
		}
		if got := u.listed[descriptorFile].ContentType; got != datapackage.MediaType {
			return Wrongf("%s: %s is listed as %q", u.at, descriptorFile, got)
		}
		if err := u.resources(p); err != nil {
			return err
		}
	}
	for name := range u.entries {
		if u.amongTables(name) && u.tables[name] == nil {
			return Wrongf("%s: no table of %s is %q", u.at, descriptorFile, name)
		}
	}
	return nil
}

func (u *unpacked) resources(p *datapackage.Package) error {
	for i := range p.Resources {
		r := &p.Resources[i]
		if len(r.Path) != 1 || u.entries[r.Path[0]] == nil {
			return Wrongf("%s: the table %s is at %q, where nothing is", u.at, r.Name, r.Path)
		}
		if u.tables[r.Path[0]] != nil {
			return Wrongf("%s describes %q twice", u.at, r.Path[0])
		}
		u.tables[r.Path[0]] = r
	}
	u.keys.expect(p)
	u.within.expect(p)
	return nil
}

// amongTables reports whether a file lies in a folder of tables.
func (u *unpacked) amongTables(name string) bool {
	if path.Dir(name) == "tables" {
		return true
	}
	for table := range u.tables {
		if path.Dir(table) == path.Dir(name) {
			return true
		}
	}
	return false
}

// file verifies a file of the archive.
func (u *unpacked) file(name string, l Listed) error {
	l.URL = name
	table := u.tables[name]
	return u.open(u.entries[name], l.Size+1, func(r io.Reader) error {
		switch {
		case table != nil:
			return l.check(r, func(r io.Reader) error {
				return u.table(r, table, l, &u.keys, &u.within)
			})
		case strings.Contains(name, "/"):
			return l.check(r, func(r io.Reader) error { return u.document(r, l) })
		}
		return l.check(r, func(io.Reader) error { return nil }) // describes the archive
	})
}

// open passes the content of a file to read, at most a number of bytes. Whatever cannot be read
// is wrong.
func (u *unpacked) open(f *zip.File, most int64, read func(io.Reader) error) error {
	r, err := f.Open()
	if err != nil {
		return Wrongf("%s: %s: %v", u.at, f.Name, err)
	}
	err = errors.Join(read(io.LimitReader(r, most)), r.Close())
	if err != nil && !errors.Is(err, ErrWrong) {
		err = Wrongf("%s: %v", f.Name, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", u.at, err)
	}
	return nil
}
