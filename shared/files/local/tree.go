package local

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"ehi-server/shared/disk"
	"ehi-server/shared/files"
)

// tree implements files.Backend on a disk. doc.go draws its layout.
type tree struct {
	root string
	disk disk.FS
}

// shards is the number of folders that hold the files.
const shards = 256

func shardName(n int) string { return fmt.Sprintf("%02x", n) }

// make creates the folders.
func (t tree) make() error {
	for shard := range shards {
		if err := t.disk.MkdirAll(filepath.Join(t.root, shardName(shard))); err != nil {
			return fmt.Errorf("make the exports directory: %w", err)
		}
	}
	if err := t.disk.SyncDir(t.root); err != nil {
		return fmt.Errorf("sync the exports directory: %w", err)
	}
	return t.disk.SyncDir(filepath.Dir(filepath.Clean(t.root)))
}

// shardOf returns the shard of a job.
func shardOf(job string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(job)) // hashes never fail
	return shardName(int(h.Sum32() % shards))
}

// dir returns the folder of a job's objects.
func (t tree) dir(job string) string { return filepath.Join(t.root, shardOf(job)) }

// path returns the path of an object. Errors: ErrName.
func (t tree) path(job, object string) (string, error) {
	if err := files.NamedJob(job); err != nil {
		return "", err
	}
	if object != filepath.Base(object) {
		return "", fmt.Errorf("object %q: %w", object, files.ErrName)
	}
	return filepath.Join(t.dir(job), job+"."+object), nil
}

// Place returns the path of an object relative to the root of a store. A restore writes to such
// paths only. Errors: ErrName.
func Place(job, object string) (string, error) {
	if err := files.Named(job, object); err != nil {
		return "", err
	}
	return tree{}.path(job, object)
}

// Root implements Backend.
func (t tree) Root() string { return t.root }

// Put implements Backend.
func (t tree) Put(job, object string, r io.Reader) error {
	path, err := t.path(job, object)
	if err != nil {
		return err
	}
	f, err := t.disk.Create(path)
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, r); err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = t.disk.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return errors.Join(err, t.disk.Remove(path))
	}
	return nil
}

// Fetch implements Backend.
func (t tree) Fetch(job, object string) (files.Source, error) {
	path, err := t.path(job, object)
	if err != nil {
		return nil, err
	}
	return t.disk.Open(path)
}

// List implements Backend.
func (t tree) List(job string) (all []files.Stored, err error) {
	names, err := t.disk.ReadDir(t.dir(job))
	for _, name := range names {
		if object, is := strings.CutPrefix(name, job+"."); is {
			all = append(all, files.StoredAs(object))
		}
	}
	return all, err
}

// Walk implements Backend: each shard is listed before f is called for its jobs.
func (t tree) Walk(f func(job string, stored []files.Stored) error) error {
	for shard := range shards {
		names, err := t.disk.ReadDir(filepath.Join(t.root, shardName(shard)))
		if err != nil {
			return err
		}
		byJob := map[string][]files.Stored{}
		for _, name := range names {
			if job, object, ok := strings.Cut(name, "."); ok && files.NamedJob(job) == nil {
				byJob[job] = append(byJob[job], files.StoredAs(object))
			}
		}
		for job, list := range byJob {
			if err := f(job, list); err != nil {
				return err
			}
		}
	}
	return nil
}

// RemoveObject implements Backend.
func (t tree) RemoveObject(job, object string) error {
	path, err := t.path(job, object)
	if err != nil {
		return err
	}
	return ignoreAbsent(t.disk.Remove(path))
}

// markPath returns the path of a mark.
func (t tree) markPath(m files.Mark) string { return filepath.Join(t.root, "."+m.Kind, m.Name) }

// PutMark implements Marks.
func (t tree) PutMark(m files.Mark, text string) error {
	name := t.markPath(m)
	if m.Name != "" {
		if err := t.disk.MkdirAll(filepath.Dir(name)); err != nil {
			return err
		}
	}
	f, err := t.disk.Create(name)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	err = errors.Join(err, f.Sync(), f.Close(), t.disk.SyncDir(filepath.Dir(name)))
	if m.Name != "" {
		err = errors.Join(err, t.disk.SyncDir(t.root))
	}
	return err
}

// MarkText implements Marks.
func (t tree) MarkText(m files.Mark) (string, error) {
	f, err := t.disk.Open(t.markPath(m))
	if err != nil {
		return "", ignoreAbsent(err)
	}
	size, err := f.Size()
	text := make([]byte, min(size, files.MaxMark))
	if err == nil && size > 0 {
		_, err = f.ReadAt(text, 0)
	}
	return string(text), errors.Join(err, f.Close())
}

// MarksOf implements Marks.
func (t tree) MarksOf(kind string) ([]string, error) {
	names, err := t.disk.ReadDir(t.markPath(files.Mark{Kind: kind}))
	return names, ignoreAbsent(err)
}

// RemoveMark implements Marks.
func (t tree) RemoveMark(m files.Mark) error { return ignoreAbsent(t.disk.Remove(t.markPath(m))) }

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
