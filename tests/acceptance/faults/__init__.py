"""Real faults on the real daemon: `scripts/faults`.

A round is one fault and its recovery while records keep coming; a theatre is a stream, its hosts and the rounds that
are played on it one after the other; a campaign is all theatres of one seed. docs/reliability.md says what must hold.

    plan        which kind of fault in which round, decided by the seed
    kinds       what each kind does
    cloud       the embedded AWS as a process that can be killed
    disks       file systems that can be full or read-only
    hosts       `kcl-receiver run` and all that belongs to it, as a host
    load        records that keep coming
    shards      which shards there are, and how they are split and merged
    leases      the lease table, watched and changed as KCL's leader changes it
    leadership  lets a dead leader's lock expire
    judging     what must hold; uses nothing of the receiver but the reader's arithmetic, which it judges as well
    theatre     plays rounds
    report      what came of it
    campaign    the command
"""
