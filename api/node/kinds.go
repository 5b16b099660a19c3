package node

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"ehi-server/api/backup"
	"ehi-server/exporter/dataset"
	"ehi-server/shared/files"
)

// kind is what a path below the data folder has to be, where it is there at all.
type kind struct {
	pattern string // of path.Match
	folder  bool
}

const streams = backup.NATSFolder + "/jetstream/$G/streams"

// pathKinds are all paths that the server owns; the first pattern that fits counts. What none of
// them fits is somebody else's, and left alone. A path that is of another kind than it has to
// be, a folder in place of a file or a pipe that nobody writes to, makes trouble that no error
// explains, and waits that never end.
var pathKinds = []kind{
	{".", true},
	{dataset.Folder, true},
	{files.Folder, true},
	{backup.NATSFolder, true},
	{dataset.Folder + ".made", false},
	{dataset.Folder + ".demo", false},
	{dataset.Folder + ".frozen", true},
	{dataset.Folder + ".frozen/*", true},
	{backup.SandboxKeys, false},
	{backup.NATSFolder + ".*.json", false},

	{backup.NATSFolder + "/lock", false},
	{backup.NATSFolder + "/" + reserveFile, false},
	{backup.NATSFolder + "/jetstream", true},
	{backup.NATSFolder + "/jetstream/_test_*", false},
	{backup.NATSFolder + "/jetstream/$G", true},
	{streams, true},
	{streams + "/*", true},
	{streams + "/*/_test_*", false},
	{streams + "/*/meta.*", false},
	{streams + "/*/msgs", true},
	{streams + "/*/msgs/*.blk", false},
	{streams + "/*/msgs/*.db", false},
	{streams + "/*/obs", true},
	{streams + "/*/obs/*", true},
	{streams + "/*/obs/*/meta.*", false},
	{streams + "/*/obs/*/o.dat", false},

	{dataset.Folder + "/*.log", false},
	{dataset.Folder + "/*.sst", false},
	{dataset.Folder + "/*.blob", false},
	{dataset.Folder + "/MANIFEST-*", false},
	{dataset.Folder + "/OPTIONS-*", false},
	{dataset.Folder + "/marker.*", false},
	{dataset.Folder + "/ehi.*", false},
	{dataset.Folder + "/LOCK", false},

	{files.Folder + "/.identity", false},
	{files.Folder + "/.reached", false},
	{files.Folder + "/.served", false},
	{files.Folder + "/.scrub*", false},
	{files.Folder + "/.held.lock", false},
	{files.Folder + "/.pairing", true},
	{files.Folder + "/.damaged", true},
	{files.Folder + "/.orphans", true},
	{files.Folder + "/.recalls", true},
	{files.Folder + "/.*/*", false},
	{files.Folder + "/[0-9a-f][0-9a-f]", true},
	{files.Folder + "/[0-9a-f][0-9a-f]/*", false},
}

// kindOf is what a path below the data folder has to be; ok is false where it is not the server's.
func kindOf(name string) (k kind, ok bool) {
	for _, k := range pathKinds {
		if fits, _ := path.Match(k.pattern, name); fits { // the patterns are well formed
			return k, true
		}
	}
	return kind{}, false
}

// Misplaced says which paths below a data folder are not what they have to be, and what to do.
// It opens nothing.
func Misplaced(data string) (out []string) {
	var look func(name string, mode fs.FileMode)
	look = func(name string, mode fs.FileMode) {
		k, ok := kindOf(name)
		at := filepath.Join(data, filepath.FromSlash(name))
		if mode&fs.ModeSymlink != 0 {
			info, err := os.Stat(at)
			if err != nil {
				return // dangling says it, or nobody needs it
			}
			mode = info.Mode()
		}
		switch {
		case !ok:
			return
		case k.folder != mode.IsDir() || !k.folder && !mode.IsRegular():
			out = append(out,
				fmt.Sprintf("%s is %s, and has to be %s: move it away, put back what was there "+
					"if you have it, and start again", at, named(mode), wanted(k.folder)))
			return
		case !k.folder:
			return
		}
		below, _ := os.ReadDir(at) // whoever opens it says what is wrong with it
		for _, e := range below {
			look(path.Join(name, e.Name()), e.Type())
		}
	}
	if info, err := os.Stat(data); err == nil {
		look(".", info.Mode())
	}
	return out
}

func named(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a folder"
	case mode.IsRegular():
		return "a file"
	case mode&fs.ModeNamedPipe != 0:
		return "a pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
}

func wanted(folder bool) string {
	if folder {
		return "a folder"
	}
	return "a file"
}
