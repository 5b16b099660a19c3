package main

import (
	"fmt"
	"testing"

	"github.com/alecthomas/kong"

	"ehi-server/exporter/source"
	"ehi-server/exporter/standalone"
	"ehi-server/shared/ehi"
)

// A flag has the same default as the package that uses it. A test is needed because the tag of a
// flag cannot refer to a constant.
func TestFlagsHaveTheDefaultsOfTheirPackages(t *testing.T) {
	limits := ehi.Limits{}.OrDefaults()
	want := map[string]string{
		"max-resource":   fmt.Sprint(source.MaxResource),
		"task-bytes":     fmt.Sprint(limits.TaskBytes),
		"file-resources": fmt.Sprint(limits.FileResources),
		"archive-bytes":  fmt.Sprint(limits.ArchiveBytes),
		"ack-wait":       limits.AckWait.String(),
		"max-deliver":    fmt.Sprint(limits.MaxDeliver),
		"file-ttl":       limits.FileTTL.String(),
		"stall":          limits.Stall.String(),
	}
	found := map[string]bool{}
	for _, program := range []any{new(cli), new(standalone.Command)} {
		parser, err := kong.New(program)
		if err != nil {
			t.Fatal(err)
		}
		err = kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
			flag, ok := node.(*kong.Flag)
			if !ok || want[flag.Name] == "" {
				return next(nil)
			}
			found[flag.Name] = true
			if err := flag.Reset(); err != nil {
				return err
			}
			if got := fmt.Sprint(flag.Target.Interface()); got != want[flag.Name] {
				t.Errorf("--%s is %s by default, its package has %s",
					flag.Name, got, want[flag.Name])
			}
			return next(nil)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name := range want {
		if !found[name] {
			t.Errorf("there is no flag --%s", name)
		}
	}
}
