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
	Spec string `help:"Source of the records: records (the record store in --data), or synthetic:patients=1000000,seed=7,native=tsv-tables,documents=10,document-bytes=2M (generated while they are read; sizes take k, M and G, powers of 1024)." name:"source" default:"records" env:"EHI_SOURCE" form:"source"`
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

// kind is one kind of source. Config.Spec is its name, or its name, a colon and settings.
type kind struct {
	name string
	// says describes the values of Config.Spec in error messages and in the reference of flags.
	says string
	// check checks the settings without opening anything.
	check func(set string) error
	// open opens the source.
	open func(c Config, set string) (source.Source, error)
}

// all lists the kinds of sources. The first is the default.
func all() []kind {
	return []kind{
		{
			name:  "records",
			says:  "records",
			check: func(string) error { return nil },
			open:  func(c Config, _ string) (source.Source, error) { return orNil(Store(c)) },
		},
		{
			name: "synthetic",
			says: "synthetic: and settings such as patients=100,seed=1",
			check: func(set string) error {
				_, err := synthetic.ParseConfig(set)
				return err
			},
			open: func(_ Config, set string) (source.Source, error) {
				c, err := synthetic.ParseConfig(set)
				if err != nil {
					return nil, err
				}
				return orNil(synthetic.NewSource(c))
			},
		},
	}
}

// orNil returns no source with an error, rather than one that holds a nil pointer.
func orNil[S source.Source](s S, err error) (source.Source, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Forms describes and checks the value of Config.Spec on command lines.
var Forms = settings.Forms{"source": {
	Name: said(),
	Fits: func(text string) bool { return Check(text) == nil },
	Why:  Check,
}}

// said describes the values of Config.Spec.
func said() string {
	var out []string
	for _, k := range all() {
		out = append(out, k.says)
	}
	return strings.Join(out, ", or ")
}

// find returns the kind and the settings of a Config.Spec.
func find(spec string) (kind, string, error) {
	name, set, _ := strings.Cut(spec, ":")
	for i, k := range all() {
		if k.name == name || i == 0 && spec == "" {
			return k, set, nil
		}
	}
	return kind{}, "", fmt.Errorf("unknown source %q; use %s", spec, said())
}

// Check reports whether Config.Spec is valid, without opening anything.
func Check(spec string) error {
	k, set, err := find(spec)
	if err != nil {
		return err
	}
	return k.check(set)
}

// Open opens the source. The caller closes it. Errors: dataset.ErrInUse.
func Open(c Config) (source.Source, error) {
	k, set, err := find(c.Spec)
	if err != nil {
		return nil, err
	}
	return k.open(c, set)
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
