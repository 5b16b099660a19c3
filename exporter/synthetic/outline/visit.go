package outline

import "time"

// Visit is what the seed draws about a visit. Its methods return the numbers of its resources.
type Visit struct {
	// Start and End are Unix times.
	Start, End int64
	N          uint32 // the number of the visit, from 0
	First      uint32 // the number of the Encounter
	// Indexes of shared resources. Medication counts only if Prescribed.
	Organization, Practitioner, Location, Medication uint8
	// Vitals are values of the list Vitals, and Labs of the list Labs. Labs count only if Tested.
	Vitals [4]uint16
	Labs   [5]uint16
	Amount uint16 // of the claim
}

// visit draws visit n.
func (d *Drawer) visit(n int, start time.Time) (v Visit) {
	const minute = 60
	v.N = uint32(n)
	v.Start = start.Unix() + int64(d.rnd.IntN(600))*minute
	v.End = v.Start + int64(15+d.rnd.IntN(60))*minute
	v.Organization = uint8(d.share(Organizations))
	v.Practitioner = uint8(d.share(Practitioners))
	v.Location = uint8(d.share(Locations))
	for i, m := range Vitals {
		v.Vitals[i] = d.value(m)
	}
	if v.Tested() {
		for i, m := range Labs {
			v.Labs[i] = d.value(m)
		}
	}
	if v.Prescribed() {
		v.Medication = uint8(d.share(Medications))
	}
	v.Amount = uint16(80 + d.rnd.IntN(400))
	return v
}

func (d *Drawer) value(m Measure) uint16 { return uint16(m.Low + d.rnd.IntN(m.Spread)) }

// Tested reports whether the visit has laboratory results.
func (v *Visit) Tested() bool { return v.N%2 == 0 }

// Treated reports whether the visit has a procedure.
func (v *Visit) Treated() bool { return v.N%4 == 0 }

// Vaccinated reports whether the visit has an immunization.
func (v *Visit) Vaccinated() bool { return v.N%4 == 1 }

// Prescribed reports whether the visit has a prescription.
func (v *Visit) Prescribed() bool { return v.N%4 == 2 }

// Asked reports whether the visit has an observation of the tobacco smoking status.
func (v *Visit) Asked() bool { return v.N%4 == 3 }

// The numbers of the resources of a visit, from that of its Encounter.
const (
	vitalAt    = 1
	orderAt    = 5
	specimenAt = 6
	resultAt   = 7
	panelAt    = 12
	untestedAt = 5  // what was done, in a visit without laboratory results
	testedAt   = 13 // the same in a visit with them
)

// Vital returns the Observation of vital sign i.
func (v *Visit) Vital(i int) uint32 { return v.First + vitalAt + uint32(i) }

// Order returns the ServiceRequest.
func (v *Visit) Order() uint32 { return v.First + orderAt }

// Specimen returns the Specimen.
func (v *Visit) Specimen() uint32 { return v.First + specimenAt }

// Result returns the Observation of laboratory result i.
func (v *Visit) Result(i int) uint32 { return v.First + resultAt + uint32(i) }

// Panel returns the DiagnosticReport of the results.
func (v *Visit) Panel() uint32 { return v.First + panelAt }

// Done returns the Procedure, Immunization, MedicationRequest or Observation of smoking, whichever
// the visit has.
func (v *Visit) Done() uint32 {
	if v.Tested() {
		return v.First + testedAt
	}
	return v.First + untestedAt
}

// Dispense returns the MedicationDispense.
func (v *Visit) Dispense() uint32 { return v.Done() + 1 }

// Claim returns the Claim.
func (v *Visit) Claim() uint32 {
	if v.Prescribed() {
		return v.Done() + 2
	}
	return v.Done() + 1
}

// Benefit returns the ExplanationOfBenefit.
func (v *Visit) Benefit() uint32 { return v.Claim() + 1 }

// After returns the number after that of the visit's last resource, a Provenance.
func (v *Visit) After() uint32 { return v.Claim() + 3 }
