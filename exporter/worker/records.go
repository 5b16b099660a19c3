package worker

import (
	"context"
	"errors"
	"fmt"

	"ehi-server/shared/ehi"
)

// errNotAdmitted means that this process does not belong to the server. The command goes to a
// process that does.
var errNotAdmitted = errors.New("these workers do not belong to the server")

// unfit is the reason why a job can never be exported. Clients see it.
type unfit string

func (u unfit) Error() string { return string(u) }

// againAdvice ends the reasons that a new request avoids.
const againAdvice = " Request the export again."

// fits checks that this process has the rules and the records that a job needs. Errors: unfit;
// errNotAdmitted; those of NATS.
func (p *Pool) fits(ctx context.Context, job *ehi.Job, have ehi.Records) error {
	if err := p.sameRules(ctx, job); err != nil {
		return err
	}
	return p.sameRecords(ctx, job, have)
}

// sameRules checks that the release rules are the same as at the kick-off. The form has told the
// patient what these rules release, and all tasks of a population must follow the same rules.
// The server does not keep old tables of rules. So if the table has changed, the job fails, and
// its client can request a new export. A new build continues jobs of the build before. Errors:
// unfit, errNotAdmitted.
func (p *Pool) sameRules(ctx context.Context, job *ehi.Job) error {
	if job.Rules == "" || job.Rules == p.Rules.Digest() {
		return nil
	}
	if err := p.Membership.Confirm(ctx); err != nil {
		return fmt.Errorf("%w: %w", errNotAdmitted, err)
	}
	return unfit("The table of sensitive codes has changed since the export was requested, and " +
		"the server no longer has the former table." + againAdvice)
}

// sameRecords checks that a job is exported from the records that it was planned on. One
// patient's export, or a population's that is not planned yet, uses the current records of the
// server, as long as they belong to the store of the kick-off. They may be a later version, as
// for a new request. A plan never changes: all tasks read one version. Errors: unfit;
// errNotAdmitted; those of NATS.
func (p *Pool) sameRecords(ctx context.Context, job *ehi.Job, have ehi.Records) error {
	planned := job.Level != ehi.OnePatient && job.Tasks > 0
	if have == job.Records {
		return nil
	}
	now := have
	// A frozen population may be an earlier version although this process has the current
	// records.
	if planned {
		now = p.Source.Records()
	}
	if err := p.Membership.Accepts(ctx, now); err != nil {
		return fmt.Errorf("%w: %w", errNotAdmitted, err)
	}
	switch {
	case planned && job.Records == (ehi.Records{}):
		return unfit(
			"An earlier version of the server started the export and did not store which " +
				"records it reads." + againAdvice)
	case job.Records.Identity != "" && have.Identity != job.Records.Identity:
		return unfit(
			fmt.Sprintf("The export was requested from other records (%s) than the server has "+
				"now (%s).", job.Records.Identity, have.Identity) + againAdvice)
	case planned:
		return unfit(
			fmt.Sprintf("The records changed during the export. It was planned on version %s, "+
				"which no longer exists; the current version is %s.",
				job.Records.Version, have.Version) + againAdvice)
	}
	return nil
}
