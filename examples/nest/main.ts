// NestJS: a module that provides the LockManager, and a decorator that runs a method under a lock.
//
//   npx tsc -p examples/nest
//   REDIS_URL=redis://127.0.0.1:6379 PORT=3000 node examples/nest/dist/main.js
//   curl -i -X POST http://127.0.0.1:3000/invoices/42/pay    twice at the same time
//
// Bun needs no compiler: start it in this folder, with `bun main.ts`.
//
// One request at a time pays an invoice, across all instances; others get 409. The lock is renewed while the
// method runs. If the lease is lost, its signal aborts, and the request fails. On SIGTERM, requests in
// progress are answered, and each lock is released as soon as its method is done, not when its lease expires.
// Only a fence can refuse what a method writes after a loss: pass on `currentLock().token`.

import {
  ConflictException,
  Controller,
  HttpCode,
  Injectable,
  Logger,
  Module,
  Param,
  Post,
} from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify'
import { LockHeldError } from 'fencelock'
import { setTimeout as sleep } from 'node:timers/promises'

import { currentLock } from './locks/current-lock.js'
import { FencelockModule } from './locks/fencelock.module.js'
import { WithLock } from './locks/with-lock.js'

@Injectable()
class InvoiceService {
  private readonly logger = new Logger(InvoiceService.name)

  @WithLock((id: string) => `invoice:${id}`, { ttlMs: 5_000, waitMs: 0 })
  async pay(id: string): Promise<void> {
    const { token, signal } = currentLock()
    this.logger.log(`paying ${id} with token ${token}`)
    // Stands for the work. What it calls gets the signal, so that it ends when the lease is lost.
    await sleep(Number(process.env.WORK_MS ?? 3_000), undefined, { signal })
    this.logger.log(`paid ${id}`)
  }
}

@Controller('invoices')
class InvoiceController {
  constructor(private readonly invoices: InvoiceService) {}

  @Post(':id/pay')
  @HttpCode(200)
  async pay(@Param('id') id: string): Promise<{ paid: true }> {
    try {
      await this.invoices.pay(id)
    } catch (error) {
      if (error instanceof LockHeldError) throw new ConflictException(`${error.resource} is in use`)
      throw error
    }
    return { paid: true }
  }
}

@Module({
  imports: [
    FencelockModule.forRoot({
      redis: {
        url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379',
        replicas: Number(process.env.REDIS_REPLICAS ?? 0),
      },
    }),
  ],
  controllers: [InvoiceController],
  providers: [InvoiceService],
})
class AppModule {}

// A client that keeps its connection open delays the end of the process by no more than this.
const adapter = new FastifyAdapter({ keepAliveTimeout: 5_000 })
const app = await NestFactory.create<NestFastifyApplication>(AppModule, adapter)
app.enableShutdownHooks() // Without it, Nest ends at once on SIGTERM.
await app.listen(Number(process.env.PORT ?? 3000))
Logger.log(`listening on ${await app.getUrl()}`)
