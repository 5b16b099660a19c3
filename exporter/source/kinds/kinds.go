// Package kinds knows the kinds of sources, and opens the source.Source that a configuration
// names: the record store of a data folder, or generated records. It also tells a record store
// that is lost from one that never existed.
package kinds

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/exporter/synthetic"
	"ehi-server/shared/settings"
)

// ImportMemory is the soft limit of the Go heap of a process that only imports, in bytes.
const ImportMemory = 112 << 20

// Flags choose the source.
type Flags struct {
	// Spec is "records", the record store in Config.Data, or "synthetic:" and the settings of
	// synthetic.ParseConfig. Default "records".
	Spec string `name:"source" help:"Source of the records: records (the record store in --data), or synthetic:patients=1000000,seed=7,... (generated while they are read)." default:"records" env:"EHI_SOURCE" form:"source"`
}

// StoreFlags are the settings of the record store.
type StoreFlags struct {
	// CacheBytes is the record store's, see dataset.Config.
	CacheBytes int64 `help:"Size of the record store's block cache in bytes." default:"33554432" env:"EHI_CACHE_BYTES" range:"1048576..1099511627776"`
}

// Bases are the FHIR bases below which absolute references are local.
type Bases struct {
	// BaseURL is this server's origin, "" where that is not known.
	BaseURL string `name:"base-url" help:"Public origin of the server, such as https://ehi.example.org. Imports treat absolute references to it as local. Default: the address that the server listens on." env:"EHI_BASE_URL" form:"origin"`
	// OwnBase are FHIR bases of the systems that the records came from.
	OwnBase []string `help:"FHIR base URL of a system that the records come from, such as https://ehr.example.org/r4. Imports treat absolute references to it as local. Repeat the flag for more." placeholder:"URL" env:"EHI_OWN_BASE" form:"url" group:"Records"`
}

// Config says where records come from.
type Config struct {
	Flags
	StoreFlags
	Bases
	// Data is the data folder.
	Data string
	// Bulk and Stuck are the record store's, see dataset.Config.
	Bulk  bool
	Stuck func(error)
	// ReadOnly opens a record store that is there, and writes nothing to its disk.
	ReadOnly bool
	// Demo is for a process that fills a new record store with demo patients, see Unfilled. A
	// process without it that opens the store for writing makes it an ordinary store.
	Demo bool
	Log  *slog.Logger
}

// Forms describes and checks the value of Config.Spec on command lines.
var Forms = settings.Forms{"source": {
	Name: "records, or synthetic: and settings such as patients=100,seed=1",
	Fits: func(text string) bool { return Check(text) == nil },
	Why:  Check,
}}

// Check reports whether Config.Spec is valid, without opening anything.
func Check(spec string) error {
	kind, made, _ := strings.Cut(spec, ":")
	switch kind {
	case "", "records":
		return nil
	case "synthetic":
		_, err := synthetic.ParseConfig(made)
		return err
	}
	return fmt.Errorf("unknown source %q; use records, or synthetic: and settings such as "+
		"synthetic:patients=100,seed=1", spec)
}

// Open opens the source. The caller closes it. Errors: dataset.ErrInUse.
func Open(c Config) (source.Source, error) {
	if err := Check(c.Spec); err != nil {
		return nil, err
	}
	if kind, said, _ := strings.Cut(c.Spec, ":"); kind == "synthetic" {
		made, err := synthetic.ParseConfig(said)
		if err != nil {
			return nil, err
		}
		return synthetic.NewSource(made)
	}
	s, err := Store(c)
	if err != nil {
		return nil, err // not s, which would be a non-nil Source with a nil pointer
	}
	return s, nil
}

// Store opens the record store of the data folder, or creates it if there never was one. Errors:
// dataset.ErrInUse, dataset.ErrDamaged.
func Store(c Config) (*dataset.Store, error) {
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, err
	}
	if err := Lost(c.Data); err != nil {
		return nil, err
	}
	own := slices.Clone(c.OwnBase)
	if c.BaseURL != "" {
		own = append(own, strings.TrimRight(c.BaseURL, "/")+"/fhir")
	}
	if err := c.keepUnfilled(); err != nil {
		return nil, err
	}
	s, err := dataset.Open(dataset.Config{
		Dir:        filepath.Join(c.Data, dataset.Folder),
		CacheBytes: c.CacheBytes,
		Bulk:       c.Bulk,
		ReadOnly:   c.ReadOnly,
		OwnBases:   own, Stuck: c.Stuck, Log: c.Log,
	})
	if err != nil || c.ReadOnly {
		return s, err
	}
	if err := keepMade(c.Data); err != nil {
		return nil, errors.Join(fmt.Errorf("note that there is a record store: %w", err), s.Close())
	}
	return s, nil
}
