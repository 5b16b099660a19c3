package disk

import (
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Probe checks whether the disk of a folder is readable. The page cache would hide a failed
// disk, so each check makes the system forget blocks of some files and reads them again. A Probe
// with Dir set is ready to use.
type Probe struct {
	// Dir is the folder. Only files whose names end in one of Ends are read.
	Dir  string
	Ends []string

	mu   sync.Mutex
	at   time.Time // of the latest check
	err  error
	last string // the file that failed; the next check reads it first
}

const (
	// probeEvery is how long a result is valid.
	probeEvery = 2 * time.Second
	// probeFiles is the number of files that a check reads a block of, probeBytes the size of a
	// block.
	probeFiles = 4
	probeBytes = 4 << 10
)

// Read reads a block of some files. It succeeds if the folder has no files.
func (p *Probe) Read() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.at.IsZero() && time.Since(p.at) < probeEvery {
		return p.err
	}
	p.err = p.look()
	p.at = time.Now()
	return p.err
}

func (p *Probe) look() error {
	if p.last != "" {
		if err := probe(p.last); err != nil {
			return err
		}
		p.last = ""
	}
	all, err := OS().ReadDir(p.Dir)
	if err != nil {
		return err
	}
	var names []string
	for _, name := range all {
		for _, end := range p.Ends {
			if strings.HasSuffix(name, end) {
				names = append(names, name)
			}
		}
	}
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, name := range names[:min(len(names), probeFiles)] {
		path := filepath.Join(p.Dir, name)
		if err := probe(path); err != nil {
			p.last = path
			return err
		}
	}
	return nil
}

// probe reads a block at a random place of a file. It succeeds if the file no longer exists.
func probe(path string) error {
	f, err := OS().Open(path)
	if err != nil {
		return ignoreAbsent(err)
	}
	size, err := f.Size()
	if err == nil {
		at := rand.Int64N(max(size, 1)) / probeBytes * probeBytes
		if of, is := f.(osFile); is {
			forget(of.File, at, probeBytes)
		}
		if _, err = f.ReadAt(make([]byte, probeBytes), at); errors.Is(err, io.EOF) {
			err = nil
		}
	}
	return errors.Join(err, f.Close())
}
