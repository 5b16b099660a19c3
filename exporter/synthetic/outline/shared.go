package outline

// Kind is the range of the shared resources of one type.
type Kind struct{ First, Count int }

// The shared resources, in the order in which they are emitted.
var (
	Organizations = Kind{0, 8}
	Locations     = Kind{8, 8}
	Practitioners = Kind{16, 24}
	Roles         = Kind{40, 24}
	Medications   = Kind{64, len(Drugs)}
)

// SharedResources is the number of shared resources.
const SharedResources = 72
