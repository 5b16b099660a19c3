package main

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// damages are the kinds of damage to a file. Each reports whether it could do any.
var damages = []struct {
	name string
	do   func(rng *rand.Rand, path string, data []byte) (bool, error)
}{
	{
		"lost",
		func(_ *rand.Rand, path string, _ []byte) (bool, error) { return true, os.Remove(path) },
	},
	{"cut", func(rng *rand.Rand, path string, data []byte) (bool, error) {
		if len(data) == 0 {
			return false, nil
		}
		return true, os.Truncate(path, rng.Int64N(int64(len(data))))
	}},
	{"zeroed", func(rng *rand.Rand, path string, data []byte) (bool, error) {
		if len(data) == 0 {
			return false, nil
		}
		from := rng.IntN(len(data))
		to := min(len(data), from+1+rng.IntN(8192))
		before := slices.Clone(data[from:to])
		clear(data[from:to])
		return !slices.Equal(before, data[from:to]), overwrite(path, data, from, to)
	}},
	{"flipped", func(rng *rand.Rand, path string, data []byte) (bool, error) {
		if len(data) == 0 {
			return false, nil
		}
		at := rng.IntN(len(data))
		data[at] ^= 1 << rng.IntN(8)
		return true, overwrite(path, data, at, at+1)
	}},
}

// overwrite writes a part of a file in place, like a failing disk under a server that has the
// file open.
func overwrite(path string, data []byte, from, to int) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(data[from:to], int64(from)); err != nil {
		_ = f.Close() // the first error counts
		return err
	}
	return f.Close()
}

// harm is one damage in a round.
type harm struct {
	kind string
	path string // relative to the data folder
}

func (h harm) String() string { return h.path + " " + h.kind }

// harmOne damages one file below a data folder, or occasionally a whole folder.
func harmOne(rng *rand.Rand, data string) (h harm, err error) {
	files, folders, err := tree(data)
	if err != nil {
		return h, err
	}
	if rng.IntN(8) == 0 && len(folders) > 0 {
		h.path = folders[rng.IntN(len(folders))]
		if rng.IntN(2) == 0 {
			h.kind = "lost, a folder"
			return h, os.RemoveAll(filepath.Join(data, h.path))
		}
		h.kind = "flipped, all of a folder"
		for _, file := range files {
			if strings.HasPrefix(file, h.path+"/") {
				if _, err := harmFile(rng, data, file, damages[3].do); err != nil {
					return h, err
				}
			}
		}
		return h, nil
	}
	// choose each kind of file equally often, however many files there are of it
	for range 100 {
		of := byKind(files)
		kind := of[rng.IntN(len(of))]
		h.path = kind[rng.IntN(len(kind))]
		how := damages[rng.IntN(len(damages))]
		h.kind = how.name
		if done, err := harmFile(rng, data, h.path, how.do); done || err != nil {
			return h, err
		}
	}
	return h, fmt.Errorf("nothing in %s could be damaged", data)
}

func harmFile(
	rng *rand.Rand, data, file string, do func(*rand.Rand, string, []byte) (bool, error),
) (bool, error) {
	path := filepath.Join(data, file)
	content, err := os.ReadFile(path)
	if os.IsNotExist(err) { // a running server has removed it
		return false, nil
	}
	if err != nil {
		return false, err
	}
	done, err := do(rng, path, content)
	if os.IsNotExist(err) {
		return false, nil
	}
	return done, err
}

// tree lists the files and folders below a folder, relative to it.
func tree(dir string) (files, folders []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		switch {
		case err != nil:
			return err
		case d.IsDir():
			folders = append(folders, name)
		case d.Type().IsRegular():
			files = append(files, name)
		}
		return nil
	})
	return files, folders, err
}

// byKind groups files by their top-level folder and the ends of their names.
func byKind(files []string) (out [][]string) {
	at := map[string]int{}
	for _, file := range files {
		top, _, _ := strings.Cut(file, "/")
		key := top + filepath.Ext(file)
		if i, known := at[key]; known {
			out[i] = append(out[i], file)
			continue
		}
		at[key] = len(out)
		out = append(out, []string{file})
	}
	return out
}
