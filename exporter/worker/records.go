package worker

import (
	"context"
	"errors"
	"fmt"

	"ehi-server/shared/ehi"
)

// errStranger says that this process turned out not to belong to the server. The command goes to
// one that does.
var errStranger = errors.New("these workers do not belong to the server")

// unfit is why a job can never be exported, for its client to read.
type unfit string

func (u unfit) Error() string { return string(u) }

// againAdvice ends the reasons of jobs that were asked for of other records.
const againAdvice = " Ask for the export again."

// fits makes sure that a job is exported by the rules and from the records that it was asked
// for. Errors: unfit, errStranger; others are NATS'.
func (p *Pool) fits(ctx context.Context, job *ehi.Job, have ehi.Records) error {
	if err := p.sameRules(ctx, job); err != nil {
		return err
	}
	return p.sameRecords(ctx, job, have)
}

// sameRules makes sure that a job goes by the rules that were configured when it was asked for:
// those by which its form said what would be released, and the same for all tasks of a
// population. The table of those rules is not kept, so that the job fails where there is another
// one now, and can be made again by that. A new build goes on with what the one before has
// begun. Errors: unfit, errStranger.
func (p *Pool) sameRules(ctx context.Context, job *ehi.Job) error {
	if job.Rules == "" || job.Rules == p.Rules.Digest() {
		return nil
	}
	if err := p.Membership.Confirm(ctx); err != nil {
		return fmt.Errorf("%w: %w", errStranger, err)
	}
	return unfit("The table of sensitive codes has changed since the export was asked for, and " +
		"no export is made by another one." + againAdvice)
}

// sameRecords makes sure that a job is exported from the records that it is planned on. What is
// not planned yet, one patient's export among it, is planned on those that the server has now,
// as long as they are the same store's as when it was asked for: a later version is what
// everybody would get who asks now. A plan never changes: all tasks are of one version. Errors:
// unfit, errStranger; others are NATS'.
func (p *Pool) sameRecords(ctx context.Context, job *ehi.Job, have ehi.Records) error {
	planned := job.Level != ehi.OnePatient && job.Tasks > 0
	if have == job.Records {
		return nil
	}
	now := have
	// what is frozen may be of an earlier version, and this process is right all the same
	if planned {
		now = p.Source.Records()
	}
	if err := p.Membership.Accepts(ctx, now); err != nil {
		return fmt.Errorf("%w: %w", errStranger, err)
	}
	switch {
	case planned && job.Records == (ehi.Records{}):
		return unfit("The export was begun by a former build of the server, which kept no note " +
			"of its records." + againAdvice)
	case job.Records.Identity != "" && have.Identity != job.Records.Identity:
		return unfit(fmt.Sprintf("The export was asked for of other records (%s) than the server "+
			"has now (%s).", job.Records.Identity, have.Identity) + againAdvice)
	case planned:
		return unfit(fmt.Sprintf("The records have changed while the export was under way: it "+
			"was planned on version %s, of which no copy is left; now there is version %s.",
			job.Records.Version, have.Version) + againAdvice)
	}
	return nil
}
