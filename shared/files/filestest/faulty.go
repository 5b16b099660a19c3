package filestest

import (
	"sync"
	"time"

	"ehi-server/shared/disk"
)

// Op is an operation of a disk that can fail on request.
type Op string

// The operations.
const (
	Create  Op = "create"
	Link    Op = "link"
	Write   Op = "write"
	Sync    Op = "sync"
	Close   Op = "close"
	SyncDir Op = "sync of the folder"
	Remove  Op = "remove"
	Read    Op = "read"
)

// Faulty is a disk that fails on request and otherwise forwards to another one.
type Faulty struct {
	disk.FS
	mu     sync.Mutex
	faults map[Op]*failure
	pause  time.Duration
}

type failure struct {
	err   error
	after int  // calls that succeed before the first failure
	times int  // failures left; negative: no end
	short bool // a write stores half of its bytes
}

// NewFaulty returns a disk that works like over until Fail or Slow is called.
func NewFaulty(over disk.FS) *Faulty { return &Faulty{FS: over, faults: map[Op]*failure{}} }

// Fail makes the next times calls of an operation fail. A negative number makes all calls fail;
// 0 ends the failures.
func (f *Faulty) Fail(op Op, err error, times int) { f.set(op, &failure{err: err, times: times}) }

// FailAfter makes an operation fail after the given number of successful calls.
func (f *Faulty) FailAfter(op Op, err error, calls int) {
	f.set(op, &failure{err: err, after: calls, times: -1})
}

// FailShort makes the next times writes store half of their bytes and fail.
func (f *Faulty) FailShort(err error, times int) {
	f.set(Write, &failure{err: err, times: times, short: true})
}

// Slow delays every write by pause.
func (f *Faulty) Slow(pause time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pause = pause
}

func (f *Faulty) set(op Op, to *failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[op] = to
}

// next returns how the next call of an operation behaves. It fails if the failure is not nil.
func (f *Faulty) next(op Op) (fail *failure, pause time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if op == Write {
		pause = f.pause
	}
	set := f.faults[op]
	if set == nil || set.times == 0 {
		return nil, pause
	}
	if set.after > 0 {
		set.after--
		return nil, pause
	}
	set.times--
	return set, pause
}

func (f *Faulty) fails(op Op) error {
	if fail, _ := f.next(op); fail != nil {
		return fail.err
	}
	return nil
}

// Create implements disk.FS.
func (f *Faulty) Create(name string) (disk.File, error) {
	if err := f.fails(Create); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name)
	return &faultyFile{file, f}, err
}

// Link implements disk.FS.
func (f *Faulty) Link(old, new string) error {
	if err := f.fails(Link); err != nil {
		return err
	}
	return f.FS.Link(old, new)
}

// Open implements disk.FS.
func (f *Faulty) Open(name string) (disk.ReadFile, error) {
	file, err := f.FS.Open(name)
	return &faultyReadFile{file, f}, err
}

// Remove implements disk.FS.
func (f *Faulty) Remove(name string) error {
	if err := f.fails(Remove); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

// SyncDir implements disk.FS.
func (f *Faulty) SyncDir(name string) error {
	if err := f.fails(SyncDir); err != nil {
		return err
	}
	return f.FS.SyncDir(name)
}

type faultyFile struct {
	disk.File
	disk *Faulty
}

func (f *faultyFile) Write(p []byte) (int, error) {
	fail, pause := f.disk.next(Write)
	if pause > 0 {
		time.Sleep(pause)
	}
	if fail == nil {
		return f.File.Write(p)
	}
	if !fail.short {
		return 0, fail.err
	}
	n, err := f.File.Write(p[:len(p)/2])
	if err == nil {
		err = fail.err
	}
	return n, err
}

func (f *faultyFile) Sync() error {
	if err := f.disk.fails(Sync); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *faultyFile) Close() error {
	err := f.File.Close()
	if e := f.disk.fails(Close); e != nil {
		return e
	}
	return err
}

type faultyReadFile struct {
	disk.ReadFile
	disk *Faulty
}

func (f *faultyReadFile) ReadAt(p []byte, offset int64) (int, error) {
	if err := f.disk.fails(Read); err != nil {
		return 0, err
	}
	return f.ReadFile.ReadAt(p, offset)
}
