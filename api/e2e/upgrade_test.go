package e2e

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ehi-server/api/backup"
	"ehi-server/api/client"
	"ehi-server/api/node"
	"ehi-server/shared/bus"
	"ehi-server/shared/ehi"
	"ehi-server/shared/files"
)

// A data folder of the first version, whose documents have their own names, is served as before.
// A record of a future version is refused with an explanation, while everything else works.
func TestADataFolderOfTheFirstVersionIsServed(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	var j client.Job
	var token string
	t.Run("made", func(t *testing.T) {
		w := start(t, data, config(), node.Options{})
		p := w.demoPatient()
		pat := w.patient(p)
		token, j = pat.Token, w.kickOff(pat, "/no-form", p, nil)
		w.wait(j.ID, ehi.Retrieved)
		a, err := w.admin.AddFiles(t.Context(), j.ID,
			client.File{Name: "letter.txt", Data: []byte("a letter")}, client.File{
				Name: "scan.txt",
				Data: []byte("a scan"),
			})
		if err != nil || a.Status != 200 {
			t.Fatalf("%+v, %v", a, err)
		}
	})
	toVersion1(t, data, j.ID)
	w := start(t, data, config(), node.Options{})
	pat := w.open.WithToken(token)
	if a, err := w.admin.RemoveFiles(t.Context(), j.ID, "scan.txt"); err != nil || a.Status != 200 {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := w.admin.Act(t.Context(), j.ID, "approve"); err != nil {
		t.Fatal(err)
	}
	w.want(w.do(pat, "GET", "/jobs/"+j.ID+"/download/attachments/letter.txt"), 200, "a letter")
	w.want(w.do(pat, "GET", "/jobs/"+j.ID+"/download/attachments/scan.txt"), 404, "")
	if err := w.node.Keeper.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	documents := 0
	err := w.node.Files.Walk(func(_ string, stored []files.Stored) error {
		for _, s := range stored {
			if s.Task < 0 {
				documents++
			}
		}
		return nil
	})
	if err != nil || documents != 1 {
		t.Errorf("%d documents are stored, %v", documents, err)
	}

	future := bus.Entry{
		Bucket: bus.JobRecords,
		Key:    "tomorrow",
		Value:  []byte(`{"v":99,"id":"tomorrow","status":"floating"}`),
	}
	if err := w.node.Bus.Restore(t.Context(), future, time.Now()); err != nil {
		t.Fatal(err)
	}
	w.want(w.do(w.admin, "GET", "/admin/jobs/tomorrow"), 500, "newer version")
	w.want(w.do(pat, "GET", "/jobs/"+j.ID+"/download/attachments/letter.txt"), 200, "a letter")
}

// toVersion1 changes a job's record and files to what the first version would have written.
func toVersion1(t *testing.T, data, id string) {
	t.Helper()
	b, err := bus.Open(t.Context(), bus.Config{StoreDir: filepath.Join(data, backup.NATSFolder)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	err = b.Entries(t.Context(), bus.JobRecords, func(e bus.Entry) error {
		var record map[string]any
		if err := json.Unmarshal(e.Value, &record); err != nil {
			return err
		}
		record["v"] = 1
		delete(record, "stored")
		for _, a := range record["attachments"].([]any) {
			document := a.(map[string]any)
			old := "a." + hex.EncodeToString([]byte(document["name"].(string)))
			paths, err := filepath.Glob(
				filepath.Join(data, "exports", "*", id+"."+document["obj"].(string)))
			if err != nil || len(paths) != 1 {
				t.Fatalf("%v, %v", paths, err)
			}
			err = os.Rename(paths[0], filepath.Join(filepath.Dir(paths[0]), id+"."+old))
			if err != nil {
				return err
			}
			delete(document, "obj")
		}
		if e.Value, err = json.Marshal(record); err != nil {
			return err
		}
		return b.Restore(t.Context(), e, time.Now())
	})
	if err != nil {
		t.Fatal(err)
	}
}
