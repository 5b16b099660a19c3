package filestest

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"

	"ehi-server/shared/disk"
)

// ErrOff is returned by every operation of a Volatile disk after its power has failed.
var ErrOff = errors.New("the power is gone")

// Volatile is a disk in memory that distinguishes what is durable from what a power failure
// destroys: the bytes of a file since its last Sync, and the names in a folder since its last
// SyncDir. It models the worst that a file system may do, not a particular one.
//
//	             as processes see it      as it is safe
//	folder       now: name -> node        safe: name -> node      SyncDir: now -> safe
//	file         data                     synced (a prefix)       Sync:    data -> synced
type Volatile struct {
	mu    sync.Mutex
	root  *node
	steps int // changing operations so far
	last  int // the power fails before the next one
}

// node is a file or a folder.
type node struct {
	folder    bool
	data      []byte
	synced    int // length of the durable prefix of data
	now, safe map[string]*node
}

func newFolder() *node {
	return &node{folder: true, now: map[string]*node{}, safe: map[string]*node{}}
}

// NewVolatile makes an empty disk.
func NewVolatile() *Volatile { return &Volatile{root: newFolder(), last: math.MaxInt} }

// CutAfter lets the given number of changing operations succeed; then the power fails.
func (v *Volatile) CutAfter(operations int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.last = v.steps + operations
}

// Steps returns the number of changing operations so far.
func (v *Volatile) Steps() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.steps
}

// Survivor returns the disk as it may be after a power failure: everything durable, and a random
// part of the rest.
func (v *Volatile) Survivor(r *rand.Rand) *Volatile {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := NewVolatile()
	out.root = survivor(v.root, r)
	return out
}

func survivor(n *node, r *rand.Rand) *node {
	if !n.folder {
		kept := n.synced + r.IntN(len(n.data)-n.synced+1)
		data := slices.Clone(n.data[:kept])
		if r.IntN(2) == 0 { // the length is durable, the bytes are not
			clear(data[n.synced:])
		}
		return &node{data: data, synced: kept}
	}
	out := newFolder()
	names := maps.Clone(n.safe)
	maps.Copy(names, n.now)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		child := n.safe[name]
		if n.now[name] != child && r.IntN(2) == 0 { // a change that was not synced
			child = n.now[name]
		}
		if child != nil {
			out.now[name] = survivor(child, r)
			out.safe[name] = out.now[name]
		}
	}
	return out
}

// change is called before each changing operation, with the lock held.
func (v *Volatile) change() error {
	if v.steps >= v.last {
		return ErrOff
	}
	v.steps++
	return nil
}

// find returns a file or folder, or nil.
func (v *Volatile) find(path string) *node {
	n := v.root
	for _, part := range split(path) {
		if n == nil || !n.folder {
			return nil
		}
		n = n.now[part]
	}
	return n
}

// split splits a path into its parts.
func split(path string) (parts []string) {
	for path = filepath.Clean(path); path != "/" && path != "."; path = filepath.Dir(path) {
		parts = append([]string{filepath.Base(path)}, parts...)
	}
	return parts
}

func absent(op, path string) error {
	return &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist}
}

// Create implements disk.FS.
func (v *Volatile) Create(name string) (disk.File, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.change(); err != nil {
		return nil, err
	}
	dir := v.find(filepath.Dir(name))
	if dir == nil || !dir.folder {
		return nil, absent("create", name)
	}
	if dir.now[filepath.Base(name)] != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	n := &node{}
	dir.now[filepath.Base(name)] = n
	return &volatileFile{v, n}, nil
}

// Link implements disk.FS.
func (v *Volatile) Link(old, new string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.change(); err != nil {
		return err
	}
	n, dir := v.find(old), v.find(filepath.Dir(new))
	if n == nil || n.folder || dir == nil || !dir.folder {
		return absent("link", old)
	}
	if dir.now[filepath.Base(new)] != nil {
		return &fs.PathError{Op: "link", Path: new, Err: fs.ErrExist}
	}
	dir.now[filepath.Base(new)] = n
	return nil
}

// Open implements disk.FS.
func (v *Volatile) Open(name string) (disk.ReadFile, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.find(name)
	if n == nil || n.folder {
		return nil, absent("open", name)
	}
	return &volatileFile{v, n}, nil
}

// Remove implements disk.FS.
func (v *Volatile) Remove(name string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.change(); err != nil {
		return err
	}
	dir := v.find(filepath.Dir(name))
	if dir == nil || dir.now[filepath.Base(name)] == nil {
		return absent("remove", name)
	}
	delete(dir.now, filepath.Base(name))
	return nil
}

// ReadDir implements disk.FS.
func (v *Volatile) ReadDir(name string) ([]string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	dir := v.find(name)
	if dir == nil || !dir.folder {
		return nil, absent("list", name)
	}
	return slices.Sorted(maps.Keys(dir.now)), nil
}

// Change replaces the bytes of a file, durably. nil stands for a file that does not exist.
func (v *Volatile) Change(name string, to func(was []byte) []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	dir, base := v.find(filepath.Dir(name)), filepath.Base(name)
	var was []byte
	if n := dir.now[base]; n != nil {
		was = slices.Clone(n.data)
	}
	data := to(was)
	delete(dir.now, base)
	if data != nil {
		dir.now[base] = &node{data: data, synced: len(data)}
	}
}

// MkdirAll implements disk.FS.
func (v *Volatile) MkdirAll(name string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.root
	for _, part := range split(name) {
		if n.now[part] == nil {
			if err := v.change(); err != nil {
				return err
			}
			n.now[part] = newFolder()
		}
		n = n.now[part]
	}
	return nil
}

// SyncDir implements disk.FS.
func (v *Volatile) SyncDir(name string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.change(); err != nil {
		return err
	}
	dir := v.find(name)
	if dir == nil {
		return absent("sync", name)
	}
	dir.safe = maps.Clone(dir.now)
	return nil
}

// Free implements disk.FS: it is never full.
func (v *Volatile) Free(string) (int64, error) { return math.MaxInt64, nil }

type volatileFile struct {
	disk *Volatile
	n    *node
}

func (f *volatileFile) Write(p []byte) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.change(); err != nil {
		return 0, err
	}
	f.n.data = append(f.n.data, p...)
	return len(p), nil
}

func (f *volatileFile) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.change(); err != nil {
		return err
	}
	f.n.synced = len(f.n.data)
	return nil
}

func (f *volatileFile) WriteBack(int64, int64) {}
func (f *volatileFile) Close() error           { return nil }

func (f *volatileFile) Size() (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return int64(len(f.n.data)), nil
}

func (f *volatileFile) ReadAt(p []byte, offset int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if offset >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[offset:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
