package node

import "log/slog"

// SpareFiles is how many files a server needs open besides its connections.
const SpareFiles = 1024

// connections is how many connections are served at once: as many as are asked for, or for which
// the system allows enough open files. Where those run out nothing works that needs one more.
func connections(asked int, log *slog.Logger) int {
	allowed, err := OpenFiles()
	if err != nil {
		log.Warn("how many files may be open is not known", "err", err)
		return asked
	}
	most := connectionsWithin(asked, allowed)
	if most < asked {
		log.Warn("fewer connections are served at once than --max-connections says: "+
			"raise the limit of open files (ulimit -n, LimitNOFILE)",
			"connections", most, "asked", asked, "open_files", allowed)
	}
	return most
}

// connectionsWithin leaves SpareFiles of those that are allowed, or half of them.
func connectionsWithin(asked int, allowed uint64) int {
	room := max(allowed-min(SpareFiles, allowed/2), 1)
	if uint64(asked) <= room {
		return asked
	}
	return int(room)
}
