package synthetic

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"ehi-server/exporter/synthetic/media"
	"ehi-server/exporter/synthetic/native"
	"ehi-server/exporter/synthetic/outline"
)

// Config configures the generated population.
type Config struct {
	// Patients is the number of patients. Default 100.
	Patients int
	// Seed selects the population. Default 1.
	Seed uint64
	// Resources is the number of resources of each patient, without shared ones. 0 draws it,
	// from 300 to 900.
	Resources int
	// Size is the minimum size of a resource in bytes; a narrative fills it up. By default a
	// resource has about 700 bytes.
	Size int
	// Errors is the share of malformed resources, from 0 to 1. A Patient is never malformed.
	Errors float64
	// Native is the shape of the native content, one of native.Shapes; "" for none.
	Native string
	// Documents is the number of documents of each patient; 0 means as many as the shape draws, and
	// native.NoDocuments none.
	Documents int
	// DocumentBytes is the size of a document in bytes, which padding fills up; 0 means no
	// padding.
	DocumentBytes int64
	// Delay is a pause before each patient, which simulates a slow source.
	Delay time.Duration
}

// Limits of a Config.
const (
	maxPatients  = 1 << 40
	maxResources = 1 << 25
	maxSize      = 5_000_000

	maxDocuments = 10_000_000
)

// ParseConfig parses settings such as
// "patients=1000000,seed=7,resources=100,size=600,errors=0.001,delay=1ms,native=tsv-tables,
// documents=10,document-bytes=2M". Missing settings have their defaults. A size of documents takes
// the suffixes k, M and G, powers of 1024.
func ParseConfig(text string) (Config, error) {
	c := Config{Patients: 100, Seed: 1}
	for setting := range strings.SplitSeq(text, ",") {
		if setting == "" {
			continue
		}
		name, value, _ := strings.Cut(setting, "=")
		if err := c.set(name, value); err != nil {
			return c, fmt.Errorf("synthetic patients: %s: %w", setting, err)
		}
	}
	return c, c.check()
}

func (c *Config) set(name, value string) (err error) {
	switch name {
	case "patients":
		c.Patients, err = strconv.Atoi(value)
	case "seed":
		c.Seed, err = strconv.ParseUint(value, 10, 64)
	case "resources":
		c.Resources, err = strconv.Atoi(value)
	case "size":
		c.Size, err = strconv.Atoi(value)
	case "errors":
		c.Errors, err = strconv.ParseFloat(value, 64)
	case "native":
		c.Native, err = value, native.CheckShape(value)
	case "documents":
		c.Documents, err = parseDocuments(value)
	case "document-bytes":
		c.DocumentBytes, err = parseSize(value)
	case "delay":
		c.Delay, err = time.ParseDuration(value)
	default:
		err = errors.New(
			"no such setting; there are patients, seed, resources, size, errors, delay, native, " +
				"documents and document-bytes")
	}
	return err
}

// parseDocuments parses a number of documents.
func parseDocuments(text string) (int, error) {
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return 0, err
	case n < 0:
		return 0, errors.New("the number is negative")
	case n == 0:
		return native.NoDocuments, nil
	}
	return n, nil
}

// parseSize parses a number of bytes such as 200M.
func parseSize(text string) (int64, error) {
	digits, shift := text, 0
	if n := len(text) - 1; n > 0 {
		if shift = 10 * (1 + strings.IndexByte("kMG", text[n])); shift > 0 {
			digits = text[:n]
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err == nil && n > math.MaxInt64>>shift {
		err = errors.New("the size is too large")
	}
	return n << shift, err
}

// Canonical returns a unique text of the settings that determine the population.
func (c Config) Canonical() string {
	text := fmt.Sprintf("patients=%d,seed=%d,resources=%d,size=%d,errors=%s", c.Patients, c.Seed,
		c.Resources, c.Size,
		strconv.FormatFloat(c.Errors, 'g', -1, 64))
	if c.Native != "" {
		text += ",native=" + c.Native
	}
	switch {
	case c.Documents == native.NoDocuments:
		text += ",documents=0"
	case c.Documents > 0:
		text += ",documents=" + strconv.Itoa(c.Documents)
	}
	if c.DocumentBytes != 0 {
		text += ",document-bytes=" + strconv.FormatInt(c.DocumentBytes, 10)
	}
	return text
}

// outline returns the settings of the patients' outlines.
func (c Config) outline() outline.Config {
	return outline.Config{Seed: c.Seed, Resources: c.Resources}
}

func (c *Config) check() error {
	switch {
	case c.Patients < 1 || c.Patients > maxPatients:
		return fmt.Errorf("synthetic patients: patients must be 1 to %d", int64(maxPatients))
	case c.Resources < 0 || c.Resources > maxResources:
		return fmt.Errorf("synthetic patients: resources must be 0 to %d", maxResources)
	case c.Size < 0 || c.Size > maxSize:
		return fmt.Errorf("synthetic patients: size must be 0 to %d bytes", maxSize)
	case !(c.Errors >= 0 && c.Errors <= 1):
		return errors.New("synthetic patients: errors must be 0 to 1")
	case c.Delay < 0:
		return errors.New("synthetic patients: delay must not be negative")
	}
	return c.checkNative()
}

func (c *Config) checkNative() error {
	switch {
	case c.Documents < native.NoDocuments || c.Documents > maxDocuments:
		return fmt.Errorf("synthetic patients: documents must be 0 to %d", maxDocuments)
	case c.DocumentBytes < 0 || c.DocumentBytes > media.MaxBytes:
		return fmt.Errorf("synthetic patients: document-bytes must be 0 to %d",
			int64(media.MaxBytes))
	case c.Native == "" && (c.Documents > 0 || c.DocumentBytes > 0):
		return errors.New("synthetic patients: documents need a shape, such as native=tsv-tables")
	}
	if err := native.CheckShape(c.Native); err != nil {
		return fmt.Errorf("synthetic patients: native=%s: %w", c.Native, err)
	}
	return nil
}

// native returns the settings of the native content.
func (c Config) native() native.Config {
	return native.Config{
		Seed:      c.Seed,
		Resources: c.Resources,
		Shape:     c.Native,

		Documents:     c.Documents,
		DocumentBytes: c.DocumentBytes,
	}
}
