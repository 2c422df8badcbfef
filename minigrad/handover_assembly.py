"""What threads do in a handover, in LLVM's assembly: words in capitals are put in by `minigrad.handover`."""

# The words of a job: 0 the number of phases, 1 that of lanes, 2 where progress is, 3 how many phases were done by
# earlier runs, 4 where sched_yield is, 5 where it says which lanes were taken back, 6 and 7 nothing; and from 8 on, for
# each phase and lane, where its list is and how long. `together` returns when the other threads look for work again:
# until then they read the job, whose memory is the caller's.
SOURCE = """
define internal void @make(ptr %job, i64 %phase, i64 %lane) nounwind {
start:
  %lanes.at = getelementptr i64, ptr %job, i64 1
  %lanes = load i64, ptr %lanes.at
  %row = mul i64 %phase, %lanes
  %entry = add i64 %row, %lane
  %twice = shl i64 %entry, 1
  %place = add i64 %twice, 8
  %list.at = getelementptr i64, ptr %job, i64 %place
  %list = load ptr, ptr %list.at
  %count.at = getelementptr i64, ptr %list.at, i64 1
  %count = load i64, ptr %count.at
  br label %test
test:
  %i = phi i64 [0, %start], [%next, %turn]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %turn, label %end
turn:
  %pair = shl i64 %i, 1
  %function.at = getelementptr i64, ptr %list, i64 %pair
  %function = load ptr, ptr %function.at
  %words.at = getelementptr i64, ptr %function.at, i64 1
  %words = load ptr, ptr %words.at
  call void %function(ptr %words)
  %next = add i64 %i, 1
  br label %test
end:
  ret void
}

define internal void @rest(i64 %turn, ptr %yield) nounwind {
start:
  PAUSE
  %long = icmp sgt i64 %turn, LOOKS_BEFORE_YIELDING
  %can = icmp ne ptr %yield, null
  %both = and i1 %long, %can
  br i1 %both, label %give, label %end
give:
  call void %yield()
  br label %end
end:
  ret void
}

define internal void @wait(ptr %place, i64 %goal, ptr %yield) nounwind {
start:
  br label %look
look:
  %turn = phi i64 [0, %start], [%next, %again]
  %seen = load atomic i64, ptr %place acquire, align 8
  %there = icmp sge i64 %seen, %goal
  br i1 %there, label %end, label %again
again:
  %next = add i64 %turn, 1
  call void @rest(i64 %next, ptr %yield)
  br label %look
end:
  ret void
}

define internal void @meet(ptr %job, i64 %goal) nounwind {
start:
  %lanes.at = getelementptr i64, ptr %job, i64 1
  %lanes = load i64, ptr %lanes.at
  %progress.at = getelementptr i64, ptr %job, i64 2
  %progress = load ptr, ptr %progress.at
  %yield.at = getelementptr i64, ptr %job, i64 4
  %yield = load ptr, ptr %yield.at
  br label %test
test:
  %lane = phi i64 [0, %start], [%next, %turn]
  %left = icmp slt i64 %lane, %lanes
  br i1 %left, label %turn, label %end
turn:
  %place = shl i64 %lane, 3
  %theirs = getelementptr i64, ptr %progress, i64 %place
  call void @wait(ptr %theirs, i64 %goal, ptr %yield)
  %next = add i64 %lane, 1
  br label %test
end:
  ret void
}

define internal void @lane(ptr %job, i64 %lane) nounwind {
start:
  %phases = load i64, ptr %job
  %progress.at = getelementptr i64, ptr %job, i64 2
  %progress = load ptr, ptr %progress.at
  %done.at = getelementptr i64, ptr %job, i64 3
  %done = load i64, ptr %done.at
  %my = shl i64 %lane, 3
  %mine = getelementptr i64, ptr %progress, i64 %my
  br label %test
test:
  %phase = phi i64 [0, %start], [%next, %turn]
  %more = icmp slt i64 %phase, %phases
  br i1 %more, label %turn, label %end
turn:
  call void @make(ptr %job, i64 %phase, i64 %lane)
  %next = add i64 %phase, 1
  %goal = add i64 %done, %next
  store atomic i64 %goal, ptr %mine release, align 8
  call void @meet(ptr %job, i64 %goal)
  br label %test
end:
  ret void
}

define internal i64 @take_back(ptr %mail) nounwind {
start:
  br label %look
look:
  %turn = phi i64 [0, %start], [%next, %again]
  %state = load atomic i64, ptr %mail acquire, align 8
  %waits = icmp eq i64 %state, POSTED
  br i1 %waits, label %again, label %begun
again:
  PAUSE
  %next = add i64 %turn, 1
  %long = icmp sgt i64 %next, LOOKS_BEFORE_TAKING_BACK
  br i1 %long, label %try, label %look
try:
  %tried = cmpxchg ptr %mail, i64 POSTED, i64 LOOKING acq_rel monotonic
  %success = extractvalue { i64, i1 } %tried, 1
  %number = zext i1 %success to i64
  ret i64 %number
begun:
  ret i64 0
}

define internal void @lead(ptr %job, ptr %mails) nounwind {
start:
  %phases = load i64, ptr %job
  %lanes.at = getelementptr i64, ptr %job, i64 1
  %lanes = load i64, ptr %lanes.at
  %progress.at = getelementptr i64, ptr %job, i64 2
  %progress = load ptr, ptr %progress.at
  %done.at = getelementptr i64, ptr %job, i64 3
  %done = load i64, ptr %done.at
  %taken.at = getelementptr i64, ptr %job, i64 5
  %taken = load ptr, ptr %taken.at
  br label %test
test:
  %phase = phi i64 [0, %start], [%next, %others]
  %more = icmp slt i64 %phase, %phases
  br i1 %more, label %turn, label %end
turn:
  call void @make(ptr %job, i64 %phase, i64 0)
  %next = add i64 %phase, 1
  %goal = add i64 %done, %next
  store atomic i64 %goal, ptr %progress release, align 8
  %first = icmp eq i64 %phase, 0
  br label %each
each:
  %lane = phi i64 [1, %turn], [%lane.next, %on]
  %left = icmp slt i64 %lane, %lanes
  br i1 %left, label %see, label %others
see:
  %whose = getelementptr i64, ptr %taken, i64 %lane
  br i1 %first, label %ask, label %known
ask:
  %index = sub i64 %lane, 1
  %mail.at = getelementptr ptr, ptr %mails, i64 %index
  %mail = load ptr, ptr %mail.at
  %answer = call i64 @take_back(ptr %mail)
  store i64 %answer, ptr %whose
  br label %known
known:
  %back = load i64, ptr %whose
  %mine = icmp ne i64 %back, 0
  br i1 %mine, label %do, label %on
do:
  call void @make(ptr %job, i64 %phase, i64 %lane)
  %place = shl i64 %lane, 3
  %their = getelementptr i64, ptr %progress, i64 %place
  store atomic i64 %goal, ptr %their release, align 8
  br label %on
on:
  %lane.next = add i64 %lane, 1
  br label %each
others:
  call void @meet(ptr %job, i64 %goal)
  br label %test
end:
  ret void
}

define internal void @alone(ptr %job) nounwind {
start:
  %phases = load i64, ptr %job
  %lanes.at = getelementptr i64, ptr %job, i64 1
  %lanes = load i64, ptr %lanes.at
  br label %test
test:
  %phase = phi i64 [0, %start], [%next, %passed]
  %more = icmp slt i64 %phase, %phases
  br i1 %more, label %others, label %end
others:
  %lane = phi i64 [0, %test], [%lane.next, %make]
  %left = icmp slt i64 %lane, %lanes
  br i1 %left, label %make, label %passed
make:
  call void @make(ptr %job, i64 %phase, i64 %lane)
  %lane.next = add i64 %lane, 1
  br label %others
passed:
  %next = add i64 %phase, 1
  br label %test
end:
  ret void
}

define internal void @together(ptr %job, ptr %mails, i64 %looks, ptr %result) nounwind {
start:
  %lanes.at = getelementptr i64, ptr %job, i64 1
  %lanes = load i64, ptr %lanes.at
  %others = sub i64 %lanes, 1
  br label %keep
keep:
  %kept = phi i64 [0, %start], [%kept.next, %got]
  %missing = icmp slt i64 %kept, %others
  br i1 %missing, label %ask, label %hand
ask:
  %mail.at = getelementptr ptr, ptr %mails, i64 %kept
  %mail = load ptr, ptr %mail.at
  br label %look
look:
  %turn = phi i64 [0, %ask], [%turn.next, %again]
  %tried = cmpxchg ptr %mail, i64 LOOKING, i64 KEPT acq_rel monotonic
  %success = extractvalue { i64, i1 } %tried, 1
  br i1 %success, label %got, label %again
again:
  PAUSE
  %turn.next = add i64 %turn, 1
  %tired = icmp sgt i64 %turn.next, %looks
  br i1 %tired, label %give_up, label %look
got:
  %kept.next = add i64 %kept, 1
  br label %keep
give_up:
  %free = phi i64 [0, %again], [%free.next, %let_go]
  %held = icmp slt i64 %free, %kept
  br i1 %held, label %let_go, label %none
let_go:
  %free.at = getelementptr ptr, ptr %mails, i64 %free
  %freed = load ptr, ptr %free.at
  store atomic i64 LOOKING, ptr %freed release, align 8
  %free.next = add i64 %free, 1
  br label %give_up
none:
  store i64 0, ptr %result
  ret void
hand:
  %given = phi i64 [0, %keep], [%lane, %post]
  %rest = icmp slt i64 %given, %others
  br i1 %rest, label %post, label %work
post:
  %lane = add i64 %given, 1
  %to.at = getelementptr ptr, ptr %mails, i64 %given
  %to = load ptr, ptr %to.at
  %job.at = getelementptr i64, ptr %to, i64 1
  store ptr %job, ptr %job.at
  %lane.at = getelementptr i64, ptr %to, i64 2
  store i64 %lane, ptr %lane.at
  store atomic i64 POSTED, ptr %to release, align 8
  br label %hand
work:
  call void @lead(ptr %job, ptr %mails)
  %phases = load i64, ptr %job
  %done.at = getelementptr i64, ptr %job, i64 3
  %done = load i64, ptr %done.at
  %all = add i64 %done, %phases
  store i64 %all, ptr %done.at
  br label %leave
leave:
  %left = phi i64 [0, %work], [%left.next, %gone]
  %inside = icmp slt i64 %left, %others
  br i1 %inside, label %ask_last, label %end
ask_last:
  %last.at = getelementptr ptr, ptr %mails, i64 %left
  %last = load ptr, ptr %last.at
  br label %still
still:
  %looked = phi i64 [0, %ask_last], [%tries, %pause]
  %state = load atomic i64, ptr %last acquire, align 8
  %reads = icmp eq i64 %state, WORKING
  br i1 %reads, label %pause, label %gone
pause:
  %yield.at = getelementptr i64, ptr %job, i64 4
  %yield = load ptr, ptr %yield.at
  %tries = add i64 %looked, 1
  call void @rest(i64 %tries, ptr %yield)
  br label %still
gone:
  %left.next = add i64 %left, 1
  br label %leave
end:
  store i64 1, ptr %result
  ret void
}

define internal void @serve(ptr %mail, ptr %yield, i64 %looks) nounwind {
start:
  %leave.at = getelementptr i64, ptr %mail, i64 3
  store atomic i64 LOOKING, ptr %mail release, align 8
  br label %look
look:
  %turn = phi i64 [0, %start], [0, %work], [%next, %rest]
  %state = load atomic i64, ptr %mail acquire, align 8
  %given = icmp eq i64 %state, POSTED
  br i1 %given, label %take, label %idle
take:
  %taken = cmpxchg ptr %mail, i64 POSTED, i64 WORKING acq_rel monotonic
  %mine = extractvalue { i64, i1 } %taken, 1
  br i1 %mine, label %work, label %idle
work:
  %job.at = getelementptr i64, ptr %mail, i64 1
  %job = load ptr, ptr %job.at
  %lane.at = getelementptr i64, ptr %mail, i64 2
  %lane = load i64, ptr %lane.at
  call void @lane(ptr %job, i64 %lane)
  store atomic i64 LOOKING, ptr %mail release, align 8
  br label %look
idle:
  %leave = load atomic i64, ptr %leave.at monotonic, align 8
  %asked = icmp ne i64 %leave, 0
  %tired = icmp sgt i64 %turn, %looks
  %ends = or i1 %asked, %tired
  br i1 %ends, label %stop, label %rest
stop:
  %tried = cmpxchg ptr %mail, i64 LOOKING, i64 ASLEEP acq_rel monotonic
  %asleep = extractvalue { i64, i1 } %tried, 1
  br i1 %asleep, label %end, label %rest
rest:
  %next = add i64 %turn, 1
  call void @rest(i64 %next, ptr %yield)
  br label %look
end:
  ret void
}

define void @kernel(ptr %words) nounwind {
start:
  %what = load i64, ptr %words
  %a.at = getelementptr i64, ptr %words, i64 1
  %a = load ptr, ptr %a.at
  %b.at = getelementptr i64, ptr %words, i64 2
  %b = load ptr, ptr %b.at
  %looks.at = getelementptr i64, ptr %words, i64 3
  %looks = load i64, ptr %looks.at
  %result.at = getelementptr i64, ptr %words, i64 4
  %result = load ptr, ptr %result.at
  switch i64 %what, label %serve [i64 ALONE, label %alone i64 TOGETHER, label %together]
alone:
  call void @alone(ptr %a)
  ret void
together:
  call void @together(ptr %a, ptr %b, i64 %looks, ptr %result)
  ret void
serve:
  call void @serve(ptr %a, ptr %b, i64 %looks)
  ret void
}
"""
