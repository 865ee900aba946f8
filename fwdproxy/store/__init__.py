"""The bytes: responses on disk, and messages on their way there.

Start with `base`, what the exchange asks of a store; `disk` is the store that does it, `finding` its reading half.
`fills` receives a message, `spool` holds its bytes, `bodies` reads and writes its file. `records` is what a row says,
`variants` which responses a key may hold at once, `changes` what can happen to them, `rows` and `commits` how that is
written, and `index` diskcache beneath. `writer` is the one thread that writes; `chores` and the plan in `eviction` are
its background work. `opening` and `mounts` look after the folder.

`purging` says what a purge names, `enforcing` keeps the purges and `generation` tells all processes of them at once;
`under_way` holds them against fills, and `sweeping` deletes what they outdated. `notes` are small values beside the
responses. `browsing` and `verifying` are for people who look into a store. `memory` is a store that no disk sees, and
`split` puts it and one on disk behind one face.
"""
