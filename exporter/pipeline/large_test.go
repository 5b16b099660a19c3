package pipeline

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"ehi-server/exporter/source"
)

// The next large resource is read on only when nobody holds the one before it any more, by type
// and organized by patient.
func TestTheNextLargeResourceWaitsForTheOneBefore(t *testing.T) {
	for _, byPatient := range []bool{false, true} {
		t.Run(fmt.Sprintf("by patient %v", byPatient), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := newTurns(ofReleaser, 1)
				r := reader{
					task: &Task{ByPatient: byPatient, Read: new(atomic.Int64)},
					out:  out,
					open: map[kind]*slab{},
				}
				in := out.mailboxes[0].slabs
				line := []byte(`{"resourceType":"Binary","id":"b","data":"` +
					strings.Repeat("x", SlabBytes) + `"}`)
				var taken []error
				go func() {
					for range 3 {
						taken = append(taken,
							r.take(t.Context(), source.Resource{
								Type:    "Binary",
								Line:    line,
								Patient: "p",
							}))
					}
					out.close()
				}()
				for n := 1; n <= 3; n++ {
					synctest.Wait()
					if len(in) != 1 {
						t.Fatalf("%d large resources wait at once, want the one of number %d",
							len(in), n)
					}
					s := <-in
					if synctest.Wait(); len(in) != 0 {
						t.Fatalf("number %d came while the one before was held", n+1)
					}
					s.recycle()
				}
				synctest.Wait()
				for _, err := range taken {
					if err != nil {
						t.Error(err)
					}
				}
				if _, more := <-in; more || len(taken) != 3 {
					t.Errorf("%d were taken, more: %v", len(taken), more)
				}
			})
		})
	}
}
