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

// Probe finds out whether the disk of a folder can still be read. What a process has in memory
// tells nothing of that: each look reads blocks of files that the system is told to forget before.
// Its zero value, with Dir, is ready to use.
type Probe struct {
	// Dir is the folder, and Ends are how the names of its files end; nothing else is read.
	Dir  string
	Ends []string

	mu   sync.Mutex
	at   time.Time // of the latest look
	err  error
	last string // the file that could not be read; it is read first, until it can be or is gone
}

const (
	// probeEvery is for how long a look is good.
	probeEvery = 2 * time.Second
	// probeFiles is how many files a look reads a block of, and probeBytes how large that is.
	probeFiles = 4
	probeBytes = 4 << 10
)

// Read reads a block of some of the files. A folder without any has nothing to be read.
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

// probe reads a block anywhere in a file. One that is not there any more is none that fails.
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
