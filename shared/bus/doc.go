// Package bus is the server's one shared state: NATS JetStream, embedded
// or external. It declares every stream, consumer and bucket (topology.go), carries commands to
// workers and news back (commands.go), and keeps jobs and tasks as KV records that change by
// compare-and-set only (jobs.go, tasks.go).
//
// It knows what a job is, not what is done with it: no HTTP, no files, no sources.
//
//	EHI_INTERACTIVE, EHI_BULK  ehi.start.<lane>.<job>       kick-off -> worker, one queue a lane
//	                           ehi.task.<lane>.<job>.<n>    planner -> worker
//	plain NATS                 ehi.cancel.<job>             DELETE -> the worker that runs it
//	plain NATS                 ehi.progress.<job>           worker -> every API process
//	KV ehi_jobs                <job>                        ehi.Job
//	KV ehi_tasks               <job>.<n>                    ehi.Task, the commit point of its files
//	KV ehi_auth, ehi_sessions                               what the authorization server and the pages keep
//	KV ehi_fleet                                            what servers ask of exporters, and who is there (fleet.go)
package bus
