// NestJS with @nestjs/schedule: a job that runs once per tick, although every instance schedules it.
//
//   npx tsc -p examples/nest
//   REDIS_URL=redis://127.0.0.1:6379 node examples/nest/dist/scheduler.js    in two or three terminals
//
// One instance runs each tick. Clocks may differ by `minHoldMs`, and the job may be shorter than that
// difference. A job that is still running at the next tick keeps its lock, and that tick is skipped. A failed
// run is not repeated. On SIGTERM, the running job is finished, for at most 20 seconds.

import { Injectable, Logger, Module } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { ScheduleModule } from '@nestjs/schedule'
import { setTimeout as sleep } from 'node:timers/promises'

import { CronOnce } from './locks/cron-once.js'
import { currentLock } from './locks/current-lock.js'
import { FencelockModule } from './locks/fencelock.module.js'

const everySeconds = Number(process.env.EVERY_SECONDS ?? 10)

@Injectable()
class Reminders {
  private readonly logger = new Logger(Reminders.name)

  @CronOnce(`*/${everySeconds} * * * * *`, 'send-reminders', { minHoldMs: everySeconds * 500 })
  async send(): Promise<void> {
    const { token, signal } = currentLock()
    this.logger.log(`sending with token ${token}`)
    await sleep(Number(process.env.WORK_MS ?? 1_000), undefined, { signal })
    this.logger.log('sent')
  }
}

@Module({
  imports: [
    ScheduleModule.forRoot(),
    FencelockModule.forRootAsync({
      // As with a configuration service: `inject: [ConfigService], useFactory: (config) => …`.
      useFactory: () => ({
        redis: {
          url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379',
          replicas: Number(process.env.REDIS_REPLICAS ?? 0),
        },
      }),
    }),
  ],
  providers: [Reminders],
})
class SchedulerModule {}

const app = await NestFactory.createApplicationContext(SchedulerModule)
app.enableShutdownHooks() // Without it, Nest ends at once on SIGTERM.
Logger.log('scheduled')
