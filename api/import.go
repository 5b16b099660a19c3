package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"ehi-server/api/client"
	"ehi-server/exporter/dataset"
	"ehi-server/exporter/source"
	"ehi-server/exporter/source/kinds"
	"ehi-server/exporter/synthetic"
	"ehi-server/exporter/synthetic/native"
)

type importCmd struct {
	common
	source.ImportFlags
	Strict  bool   `help:"Stop at the first invalid line or Bundle entry, and fail if resources belong to no known patient."`
	Charset string `help:"Encoding of text that is not UTF-8: latin1, windows-1252, utf-16... By default, such a line or entry is reported as a problem." form:"text"`
	JSON    bool   `help:"Print the report as JSON."`
	kinds.Bases
	remote
	Paths []string `arg:"" help:"Files and folders." type:"existingpath"`
}

// errIncomplete makes the process exit with 1 after an incomplete import.
var errIncomplete = errors.New("some input could not be imported")

// errOnlyHere is why native content is not sent to a server.
var errOnlyHere = errors.New("documents and tables cannot be imported through a running server: " +
	"stop the server, import without --url, and start it again")

// onlyHereData is why the data of attachments is not sent to a server.
const onlyHereData = "data of attachments is not imported through a running server: " +
	"stop the server, import without --url, and start it again"

// Run imports and shows a progress bar.
func (i *importCmd) Run(ctx context.Context) error {
	bar := progressbar.DefaultBytes(-1, "importing")
	progress := func(done, total int64) {
		bar.ChangeMax64(total)
		_ = bar.Set64(done) // a progress bar must not stop the import
	}
	var report source.Report
	var err error
	if i.URL != "" {
		report, err = i.send(ctx, progress)
	} else {
		err = i.withStore(i.Bases, func(store *dataset.Store) (err error) {
			records := sync.OnceValue(func() *progressbar.ProgressBar { // begins when all is read
				fmt.Fprintln(os.Stderr)
				return progressbar.Default(-1, "completing records")
			})
			report, err = store.Import(ctx, i.Paths, source.ImportOptions{
				Strict:      i.Strict,
				Charset:     i.Charset,
				MaxResource: i.MaxResource,
				MoveFrom:    source.MoveFrom(i.InlineBytes),
				Now:         time.Now(),
				Progress:    progress,
				Settled:     func(patients int) { _ = records().Set(patients) },
			})
			return err
		})
	}
	if errors.Is(err, dataset.ErrInUse) {
		return fmt.Errorf("%w; %s", err, i.instead())
	}
	fmt.Fprintln(os.Stderr)
	if e := i.print(report); err == nil {
		err = e
	}
	if err == nil && report.Problems > 0 {
		err = errIncomplete
	}
	return err
}

// instead says how the same is imported while a server has the store.
func (i *importCmd) instead() string {
	inputs, _, err := dataset.Inputs(i.Paths)
	native := func(in dataset.Input) bool { return in.Native }
	if err == nil && slices.ContainsFunc(inputs, native) {
		return errOnlyHere.Error()
	}
	return "import through the running server: import --url URL PATH"
}

// send imports through a running server, file by file.
func (i *importCmd) send(ctx context.Context, progress func(done, total int64)) (sum source.Report, err error) {
	inputs, ignored, err := dataset.Inputs(i.Paths)
	sum.Ignored = ignored
	if err != nil {
		return sum, err
	}
	for _, in := range inputs {
		if in.Native {
			return sum, fmt.Errorf("%s: %w", in.Path, errOnlyHere)
		}
		if in.Data {
			sum.Ignored = append(sum.Ignored, source.Ignored{File: in.Path, Why: onlyHereData})
		}
	}
	inputs = slices.DeleteFunc(inputs, func(in dataset.Input) bool { return in.Data })
	open := client.New(strings.TrimSuffix(i.URL, "/"))
	defer open.Close()
	admin, err := i.logIn(ctx, open)
	if err != nil {
		return sum, err
	}
	var done, total int64
	for _, in := range inputs {
		total += in.Info.Size()
	}
	for _, in := range inputs {
		o := client.ImportOptions{Name: in.Path, Document: in.Document, Strict: i.Strict, Charset: i.Charset}
		report, err := admin.Import(ctx, o, func() (io.ReadCloser, error) {
			f, err := os.Open(in.Path)
			at := done
			return &reporting{f, func(n int) { at += int64(n); progress(at, total) }}, err
		})
		sum.Add(report)
		if err != nil {
			return sum, err
		}
		if i.Strict && report.Problems > 0 {
			return sum, fmt.Errorf("%w: %s", source.ErrBad, report.Bad[0])
		}
		done += in.Info.Size()
	}
	// only after the last file, because it may contain the patients
	if i.Strict && len(sum.Unplaced) > 0 {
		return sum, fmt.Errorf("%w: %s", source.ErrUnplaced, sum.Unplaced)
	}
	return sum, nil
}

// reporting counts how much of a file has been read.
type reporting struct {
	*os.File
	read func(n int)
}

func (r *reporting) Read(p []byte) (int, error) {
	n, err := r.File.Read(p)
	r.read(n)
	return n, err
}

// print prints the report.
func (i *importCmd) print(r source.Report) error {
	if i.JSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(r)
	}
	printReport(r)
	return nil
}

func printReport(r source.Report) {
	for _, t := range slices.Sorted(maps.Keys(r.Counts)) {
		fmt.Printf("%-24s %8d\n", t, r.Counts[t])
	}
	fmt.Printf("%d resources read from %d files; %d files unchanged since an earlier import; %d problems\n", r.Resources(), r.Files, r.Skipped, r.Problems)
	if r.Documents > 0 {
		fmt.Printf("%d documents read\n", r.Documents)
	}
	if r.DocumentsRemoved > 0 {
		fmt.Printf("%d documents removed from their patient\n", r.DocumentsRemoved)
	}
	for _, t := range slices.Sorted(maps.Keys(r.Rows)) {
		fmt.Printf("table %-18s %8d rows\n", t, r.Rows[t])
	}
	for _, t := range slices.Sorted(maps.Keys(r.RowsRemoved)) {
		fmt.Printf("table %-18s %8d rows removed\n", t, r.RowsRemoved[t])
	}
	for _, left := range r.Ignored {
		fmt.Fprintf(os.Stderr, "left out: %s: %s\n", left.File, left.Why)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(os.Stderr, "note: %s: %s\n", note.File, note.Text)
	}
	for _, t := range slices.Sorted(maps.Keys(r.Unplaced)) {
		fmt.Fprintf(os.Stderr, "of unknown patients: %d %s, for example %s\n", r.Unplaced[t].Count,
			t, r.Unplaced[t].Example)
	}
	if u := r.UnplacedDocuments; u != nil {
		fmt.Fprintf(os.Stderr, "of unknown patients: %d documents, for example %s\n", u.Count,
			u.Example)
	}
	for _, t := range slices.Sorted(maps.Keys(r.UnplacedRows)) {
		fmt.Fprintf(os.Stderr, "of unknown patients: %d rows of the table %s, for example %s\n",
			r.UnplacedRows[t].Count, t, r.UnplacedRows[t].Example)
	}
	for _, t := range slices.Sorted(maps.Keys(r.Renamed)) {
		of := r.Renamed[t]
		fmt.Fprintf(os.Stderr, "renamed: %d %s, for example %s instead of %s\n", of.Count, t, of.To,
			of.From)
	}
	for _, p := range r.Bad {
		fmt.Fprintln(os.Stderr, p)
	}
	if more := r.Problems - int64(len(r.Bad)); more > 0 {
		fmt.Fprintf(os.Stderr, "and %d more\n", more)
	}
}

type generateCmd struct {
	common
	Patients  int    `help:"Number of patients." default:"100" range:"1..100000000"`
	Seed      uint64 `help:"Seed of the generator. The same seed generates the same patients." default:"1"`
	Resources int    `help:"Resources per patient. Default: 300 to 900." range:"0..33554432"`
	Size      int    `help:"Minimum size of a resource in bytes. Default: none; resources have about 700." range:"0..5000000"`
	Native    string `help:"Shape of the patients' documents and tables, as in native= of --source. Default: none." placeholder:"SHAPE" form:"text"`
}

// Run generates patients and shows a progress bar.
func (g *generateCmd) Run(ctx context.Context) error {
	if err := native.CheckShape(g.Native); err != nil {
		return fmt.Errorf("--native %s: %w", g.Native, err)
	}
	return g.withStore(kinds.Bases{}, func(store *dataset.Store) error {
		bar := progressbar.Default(int64(g.Patients), "generating")
		made := synthetic.Config{
			Patients: g.Patients, Seed: g.Seed, Resources: g.Resources, Size: g.Size,
			Native: g.Native,
		}
		err := store.Generate(ctx, made, time.Now(), func(done, _ int) {
			_ = bar.Set(done) // a progress bar must not stop the command
		})
		fmt.Fprintln(os.Stderr)
		return err
	})
}
