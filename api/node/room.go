package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ehi-server/api/backup"
	"ehi-server/api/condition"
	"ehi-server/exporter/dataset"
	"ehi-server/shared/disk"
	"ehi-server/shared/files"
	"ehi-server/shared/files/local"
)

// reserveFile is the reserve's name in the folder of the state.
const reserveFile = "reserve"

// roomIn looks at the room of a data folder before anything is opened in it. rescue is why the
// node can only be opened in rescue mode; its reserve is given up then. Errors:
// condition.ErrShort where there is nothing that could be rescued.
func roomIn(data string, cfg Config) (room condition.Room, rescue, err error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return room, nil, err
	}
	state := filepath.Join(data, backup.NATSFolder)
	room = condition.Room{Floor: cfg.Room.RescueBelow}
	folders := []string{state, filepath.Join(data, dataset.Folder)}
	if cfg.Bus.URL == "" {
		room.File, room.Reserve = filepath.Join(state, reserveFile), cfg.Room.ReserveBytes
	} else {
		folders = folders[1:]
	}
	room.Folders = []string{data}
	missing := false
	for _, folder := range folders {
		_, err := os.Stat(folder)
		if err == nil {
			room.Folders = append(room.Folders, folder)
		}
		missing = missing || errors.Is(err, fs.ErrNotExist)
	}
	if rescue = room.Short(); rescue == nil {
		return room, nil, nil
	}
	if missing {
		return room, nil,
			fmt.Errorf("%w: make room in %s, or give another --data or a smaller --rescue-below",
				rescue, data)
	}
	return room, rescue, room.Release()
}

// openFiles opens the store of the exports' files. Which kind it is is decided here.
func (n *Node) openFiles(opts Options) (files.Store, error) {
	return local.Open(local.Config{
		Root:       filepath.Join(n.data, files.Folder),
		SpillBytes: n.cfg.Limits.SpillBytes,
		Disk:       n.exportsDisk(opts.Disk),
		Log:        n.log,
		Unsummed:   opts.UnsummedFiles,
	})
}

// exportsDisk is the disk of the exports. Where it is that of the state, exports leave room for
// the state.
func (n *Node) exportsDisk(under disk.FS) disk.FS {
	if under == nil {
		under = disk.OS()
	}
	if n.cfg.Room.RescueBelow == 0 || !sameDisk(n.data, filepath.Join(n.data, files.Folder)) {
		return under
	}
	return disk.Leaving(under, n.cfg.Room.RescueBelow)
}
